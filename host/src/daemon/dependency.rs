//! Which pipelines wait for which: circles are mistakes. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// What is wrong with the dependencies of each pipeline that cannot run because of it.
///
/// `depends_on` names, for every pipeline, those that go before it.
pub fn problems(depends_on: &BTreeMap<String, Vec<String>>) -> BTreeMap<String, String> {
    let mut problems = BTreeMap::new();
    for (name, parents) in depends_on {
        let unknown = parents
            .iter()
            .find(|parent| !depends_on.contains_key(*parent));
        if let Some(parent) = unknown {
            problems.insert(
                name.clone(),
                format!(
                    "`depends_on` names `{parent}`, and there is no such pipeline; correct the name, or add its plugin"
                ),
            );
        } else if let Some(circle) = circle(name, depends_on) {
            problems.insert(
                name.clone(),
                format!(
                    "`depends_on` leads in a circle: {}; take one of them out",
                    circle.join(" -> ")
                ),
            );
        }
    }
    problems
}

/// The way from a pipeline back to itself.
fn circle(start: &str, depends_on: &BTreeMap<String, Vec<String>>) -> Option<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut paths = vec![vec![start.to_owned()]];
    while let Some(path) = paths.pop() {
        let parents = path.last().and_then(|last| depends_on.get(last));
        for parent in parents.into_iter().flatten() {
            let mut longer = path.clone();
            longer.push(parent.clone());
            if parent == start {
                return Some(longer);
            }
            if seen.insert(parent.clone()) {
                paths.push(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        edges
            .iter()
            .map(|(name, parents)| {
                let parents = parents.iter().map(|&parent| parent.to_owned()).collect();
                ((*name).to_owned(), parents)
            })
            .collect()
    }

    #[test]
    fn a_diamond_is_fine() {
        let graph = graph(&[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])]);
        assert!(problems(&graph).is_empty());
    }

    #[test]
    fn a_circle_is_told_by_its_way_and_only_of_those_in_it() {
        let graph = graph(&[
            ("a", &["c"]),
            ("b", &["a"]),
            ("c", &["b"]),
            ("d", &["a"]),
            ("e", &["e"]),
        ]);
        let problems = problems(&graph);
        assert_eq!(problems.keys().collect::<Vec<_>>(), ["a", "b", "c", "e"]);
        assert!(
            problems["a"].contains("a -> c -> b -> a"),
            "{}",
            problems["a"]
        );
        assert!(problems["e"].contains("e -> e"));
    }

    #[test]
    fn an_unknown_name_is_told() {
        let problems = problems(&graph(&[("a", &["nobody"])]));
        assert!(problems["a"].contains("`nobody`"));
    }

    proptest! {
        #[test]
        fn what_only_depends_on_earlier_ones_has_no_circle(parents in prop::collection::vec(prop::collection::vec(0usize..20, 0..4), 1..20)) {
            let graph: BTreeMap<String, Vec<String>> = parents
                .iter()
                .enumerate()
                .map(|(index, parents)| {
                    let earlier = parents.iter().filter(|parent| **parent < index).map(ToString::to_string);
                    (index.to_string(), earlier.collect())
                })
                .collect();
            prop_assert!(problems(&graph).is_empty());
        }
    }
}
