//! A plugin's own settings, by their JSON schema: which there are, and what the plugin's words about a mistake mean.
//!
//! Whether settings are right is the plugin's to say; here nothing is refused.

use serde_json::{Map, Value as Json};

use super::suggest::closest;

/// Schemas that refer to each other are followed no further than this.
const DEEPEST: usize = 16;

const NO_SETTING: &str = "is not a setting of the plugin";

/// Words that a setting may be, of which more would fill the screen.
const MOST_WORDS: usize = 8;

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its key below `settings`, dotted.
    pub key: String,
    /// What it holds, in words.
    pub kind: String,
    /// What it is if it is not given, as JSON.
    pub default: Option<String>,
    /// It must be given.
    pub required: bool,
    /// What it is for.
    pub description: String,
}

/// A mistake in words for people, with the key that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key below `settings`, dotted.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub fix: Option<String>,
    /// The key itself is wrong, not its value.
    pub of_key: bool,
}

/// A key that the schema does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The key below `settings`, dotted.
    pub key: String,
    /// The keys that there are in its place.
    pub known: Vec<String>,
    /// The plugin refuses it; otherwise it passes over it.
    pub refused: bool,
}

impl Unknown {
    /// What to write instead.
    fn fix(&self) -> String {
        let name = self.key.rsplit('.').next().unwrap_or(&self.key);
        fix(name, &self.known)
    }
}

impl From<Unknown> for Mistake {
    fn from(unknown: Unknown) -> Self {
        Self {
            message: NO_SETTING.to_owned(),
            fix: Some(unknown.fix()),
            key: unknown.key,
            of_key: true,
        }
    }
}

/// All settings of a schema, with those of nested ones under dotted keys.
pub fn list(schema: &Json) -> Vec<Setting> {
    let mut settings = Vec::new();
    Reader { root: schema }.list(schema, "", None, 0, &mut settings);
    settings
}

/// The keys of some settings that their schema does not have.
pub fn unknown(schema: &Json, settings: &Json) -> Vec<Unknown> {
    let mut found = Vec::new();
    Reader { root: schema }.unknown(schema, settings, "", 0, &mut found);
    found
}

/// What a plugin says of a mistake, in the host's words. A plugin says what its deserializer does.
pub fn explain(schema: &Json, key: &str, message: &str) -> Mistake {
    let name = message.split('`').nth(1).unwrap_or_default();
    if message.starts_with("unknown field `") {
        // The words in backquotes behind the first are those that there are.
        let known = message.split('`').skip(3).step_by(2);
        let known: Vec<String> = known.map(str::to_owned).collect();
        return Mistake {
            key: with_name(key, name),
            message: NO_SETTING.to_owned(),
            fix: Some(fix(name, &known)),
            of_key: true,
        };
    }
    if message.starts_with("missing field `") {
        let key = join(key, name);
        let setting = list(schema).into_iter().find(|known| known.key == key);
        return Mistake {
            fix: setting.map(|setting| match setting.description.as_str() {
                "" => format!("give it: {}", setting.kind),
                what => format!("give it: {}, {what}", setting.kind),
            }),
            key,
            message: "is required but not given".to_owned(),
            of_key: false,
        };
    }
    Mistake {
        key: key.to_owned(),
        message: message.to_owned(),
        fix: None,
        of_key: false,
    }
}

fn fix(name: &str, known: &[String]) -> String {
    if known.is_empty() {
        return "leave it out: there are no settings here".to_owned();
    }
    let all = format!("known here: {}", known.join(", "));
    match closest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}? {all}"),
        None => all,
    }
}

/// The key of a field that a deserializer does not know: some of them name it in the path already.
fn with_name(path: &str, name: &str) -> String {
    let named = path == name || path.ends_with(&format!(".{name}"));
    if named {
        path.to_owned()
    } else {
        join(path, name)
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

struct Reader<'a> {
    root: &'a Json,
}

impl<'a> Reader<'a> {
    /// The schema that is meant: behind a reference, and the one of those that may be left out.
    fn resolve(&self, schema: &'a Json) -> &'a Json {
        let mut schema = schema;
        for _ in 0..DEEPEST {
            if let Some(Json::String(to)) = schema.get("$ref") {
                let target = to.strip_prefix('#').and_then(|to| self.root.pointer(to));
                let Some(target) = target else { break };
                schema = target;
                continue;
            }
            let Some(Json::Array(choices)) = schema.get("anyOf") else {
                break;
            };
            let mut some = choices.iter().filter(|choice| !is_null(choice));
            match (some.next(), some.next()) {
                (Some(only), None) => schema = only,
                _ => break,
            }
        }
        schema
    }

    fn list(
        &self,
        schema: &'a Json,
        path: &str,
        default: Option<&Json>,
        depth: usize,
        settings: &mut Vec<Setting>,
    ) {
        let Some(properties) = properties(schema).filter(|_| depth < DEEPEST) else {
            return;
        };
        let required = schema.get("required").and_then(Json::as_array);
        for (name, property) in properties {
            let meant = self.resolve(property);
            let key = join(path, name);
            let default = property
                .get("default")
                .or_else(|| default.and_then(|default| default.get(name)));
            if self::properties(meant).is_some_and(|nested| !nested.is_empty()) {
                self.list(meant, &key, default, depth + 1, settings);
                continue;
            }
            let words = |schema: &Json| {
                let words = schema.get("description").and_then(Json::as_str);
                words.map(|words| words.split_whitespace().collect::<Vec<_>>().join(" "))
            };
            settings.push(Setting {
                kind: self.kind(meant, 0),
                default: default
                    .filter(|default| !default.is_null())
                    .map(Json::to_string),
                required: required.is_some_and(|names| names.iter().any(|known| known == name)),
                description: words(property).or_else(|| words(meant)).unwrap_or_default(),
                key,
            });
        }
    }

    fn kind(&self, schema: &'a Json, depth: usize) -> String {
        let schema = self.resolve(schema);
        if depth > DEEPEST {
            return "any".to_owned();
        }
        let words = |choices: &'a Vec<Json>| -> Option<Vec<String>> {
            let word = |choice: &Json| match choice.get("const").unwrap_or(choice) {
                Json::String(word) => Some(word.clone()),
                Json::Object(_) => None,
                other => Some(other.to_string()),
            };
            choices.iter().map(word).collect()
        };
        let mut choices = Vec::new();
        for key in ["enum", "oneOf"] {
            if let Some(Json::Array(known)) = schema.get(key) {
                choices = known.iter().collect();
                if let Some(words) = words(known) {
                    return one_of(&words);
                }
            }
        }
        // An enumeration of which some words have a description and some have none.
        let parts: Option<Vec<&Vec<Json>>> = choices
            .iter()
            .map(|choice| choice.get("enum").and_then(Json::as_array))
            .collect();
        if let Some(parts) = parts.filter(|parts| !parts.is_empty()) {
            let all: Option<Vec<Vec<String>>> = parts.into_iter().map(words).collect();
            if let Some(all) = all {
                return one_of(&all.concat());
            }
        }
        let types: Vec<&str> = match schema.get("type") {
            Some(Json::String(one)) => vec![one],
            Some(Json::Array(several)) => several.iter().filter_map(Json::as_str).collect(),
            _ => Vec::new(),
        };
        let types: Vec<&str> = types.into_iter().filter(|one| *one != "null").collect();
        match types.as_slice() {
            ["string"] => "text".to_owned(),
            ["boolean"] => "true | false".to_owned(),
            ["array"] => match schema.get("items") {
                Some(items) => format!("list of {}", self.kind(items, depth + 1)),
                None => "list".to_owned(),
            },
            ["object"] => match schema.get("additionalProperties") {
                Some(of @ Json::Object(_)) => format!("keys with {}", self.kind(of, depth + 1)),
                _ => "keys and values".to_owned(),
            },
            [] => "any".to_owned(),
            several => several.join(" or "),
        }
    }

    fn unknown(
        &self,
        schema: &'a Json,
        value: &Json,
        path: &str,
        depth: usize,
        found: &mut Vec<Unknown>,
    ) {
        let schema = self.resolve(schema);
        if depth > DEEPEST {
            return;
        }
        match value {
            Json::Array(items) => {
                let Some(of) = schema.get("items") else {
                    return;
                };
                for (index, item) in items.iter().enumerate() {
                    self.unknown(of, item, &format!("{path}[{index}]"), depth + 1, found);
                }
            }
            Json::Object(entries) => {
                let Some(properties) = properties(schema) else {
                    return;
                };
                // Further keys may be described in other ways.
                let whole = [
                    "allOf",
                    "anyOf",
                    "oneOf",
                    "patternProperties",
                    "unevaluatedProperties",
                ]
                .iter()
                .all(|key| schema.get(key).is_none());
                for (name, entry) in entries {
                    let key = join(path, name);
                    match (properties.get(name), schema.get("additionalProperties")) {
                        (Some(of), _) => self.unknown(of, entry, &key, depth + 1, found),
                        (None, None | Some(Json::Bool(false))) if whole => found.push(Unknown {
                            key,
                            known: properties.keys().cloned().collect(),
                            refused: schema.get("additionalProperties").is_some(),
                        }),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

fn one_of(words: &[String]) -> String {
    let more = if words.len() > MOST_WORDS {
        " | …"
    } else {
        ""
    };
    let first: Vec<&str> = words.iter().take(MOST_WORDS).map(String::as_str).collect();
    format!("{}{more}", first.join(" | "))
}

fn properties(schema: &Json) -> Option<&Map<String, Json>> {
    schema.get("properties").and_then(Json::as_object)
}

fn is_null(schema: &Json) -> bool {
    schema.get("type").is_some_and(|kind| kind == "null")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Json {
        json!({
            "$defs": {
                "Limits": {
                    "additionalProperties": false,
                    "properties": {
                        "highest": { "type": "integer", "description": "Rows above it\nare left out." },
                        "lowest": { "type": "integer", "default": 1 },
                    },
                    "type": "object",
                },
                "Place": { "oneOf": [
                    { "const": "near", "description": "Here." },
                    { "const": "far" },
                ] },
                "Tree": { "properties": { "child": { "$ref": "#/$defs/Tree" } } },
            },
            "properties": {
                "limits": { "$ref": "#/$defs/Limits", "default": { "highest": 9 } },
                "more": { "anyOf": [{ "$ref": "#/$defs/Limits" }, { "type": "null" }] },
                "names": { "type": "array", "items": { "type": ["string", "null"] } },
                "place": { "$ref": "#/$defs/Place", "description": "Where." },
                "token": { "type": "string" },
                "ways": { "type": "object", "additionalProperties": { "type": "boolean" } },
                "list": { "type": "array", "items": { "$ref": "#/$defs/Limits" } },
                "tree": { "$ref": "#/$defs/Tree" },
            },
            "required": ["token"],
        })
    }

    #[test]
    fn settings_are_listed_with_what_they_hold() {
        let listed: Vec<String> = list(&schema())
            .into_iter()
            .filter(|setting| !setting.key.starts_with("tree"))
            .map(|setting| {
                let Setting {
                    key,
                    kind,
                    default,
                    required,
                    description,
                } = setting;
                let default = default.unwrap_or_default();
                format!("{key}: {kind} ({default}) {required} {description}")
            })
            .collect();
        assert_eq!(
            listed,
            [
                "limits.highest: integer (9) false Rows above it are left out.",
                "limits.lowest: integer (1) false ",
                "list: list of keys and values () false ",
                "more.highest: integer () false Rows above it are left out.",
                "more.lowest: integer (1) false ",
                "names: list of text () false ",
                "place: near | far () false Where.",
                "token: text () true ",
                "ways: keys with true | false () false ",
            ]
        );
    }

    #[test]
    fn keys_that_there_are_not_are_found_wherever_they_are() {
        let settings = json!({
            "token": "x", "tokn": "x", "ways": { "any": true },
            "limits": { "lowst": 1 }, "more": null, "list": [{ "lowest": 1 }, { "hihgest": 2 }],
        });
        let found: Vec<String> = unknown(&schema(), &settings)
            .iter()
            .map(|unknown| format!("{} {} {}", unknown.key, unknown.refused, unknown.fix()))
            .collect();
        assert_eq!(
            found,
            [
                "limits.lowst true did you mean lowest? known here: highest, lowest",
                "list[1].hihgest true did you mean highest? known here: highest, lowest",
                "tokn false did you mean token? known here: limits, list, more, names, place, token, tree, ways",
            ]
        );
        assert_eq!(unknown(&Json::Null, &settings), []);
    }

    #[test]
    fn what_a_deserializer_says_is_told_in_the_host_s_words() {
        let told = |key, message| {
            let Mistake {
                key, message, fix, ..
            } = explain(&schema(), key, message);
            format!("{key} {message}; {}", fix.unwrap_or_default())
        };
        assert_eq!(
            told(
                "limits.lowst",
                "unknown field `lowst`, expected `lowest` or `highest`"
            ),
            "limits.lowst is not a setting of the plugin; did you mean lowest? known here: lowest, highest"
        );
        assert_eq!(
            told("", "unknown field `x`, there are no fields"),
            "x is not a setting of the plugin; leave it out: there are no settings here"
        );
        assert_eq!(
            told("", "missing field `token`"),
            "token is required but not given; give it: text"
        );
        assert_eq!(told("token", "too short"), "token too short; ");
    }
}
