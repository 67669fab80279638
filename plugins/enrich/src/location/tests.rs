//! What each text of an address gives, with and without an MMDB.

mod mmdb_file;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use self::mmdb_file::MmdbFile;
use super::*;

fn embedded(text: &str) -> (Option<String>, String) {
    let locator = Locator::embedded();
    let location = locator.locate(Some(text)).unwrap();
    (
        location.country_code.map(str::to_owned),
        location.to_string(),
    )
}

fn country(text: &str) -> String {
    embedded(text)
        .0
        .unwrap_or_else(|| panic!("{text}: no country"))
}

fn word(text: &str) -> String {
    let (code, name) = embedded(text);
    assert_eq!(code, None, "{text}");
    name
}

#[test]
fn public_addresses_have_a_country() {
    assert_eq!(
        embedded("8.8.8.8"),
        (Some("US".into()), "United States".into())
    );
    assert_eq!(
        embedded("193.0.6.139"),
        (Some("NL".into()), "Netherlands".into())
    );
    assert_eq!(
        embedded("2001:4860:4860::8888"),
        (Some("US".into()), "United States".into())
    );
    assert_eq!(
        embedded("2a02:8109::1"),
        (Some("DE".into()), "Germany".into())
    );
}

#[test]
fn every_accepted_form_gives_the_same_place() {
    for text in [
        "8.8.8.8",
        " 8.8.8.8\t",
        "8.8.8.8:53",
        "::ffff:8.8.8.8",
        "[::ffff:8.8.8.8]:53",
        "64:ff9b::808:808",
    ] {
        assert_eq!(country(text), "US", "{text}");
    }
    // 6to4 of 193.0.6.139.
    assert_eq!(country("2002:c100:068b::1"), "NL");
    for text in [
        "2a02:8109::1",
        "[2a02:8109::1]",
        "[2a02:8109::1]:443",
        "2a02:8109::1%eth0",
        "2A02:8109:0:0:0:0:0:1",
    ] {
        assert_eq!(country(text), "DE", "{text}");
    }
}

#[test]
fn a_missing_address_is_unknown() {
    let locator = Locator::embedded();
    assert_eq!(locator.locate(None).unwrap(), Location::nowhere("unknown"));
    for text in ["", " ", "\t\r\n", "\u{a0}"] {
        assert_eq!(word(text), "unknown", "{text:?}");
    }
}

#[test]
fn what_is_no_address_is_invalid() {
    let texts = [
        "-",
        "localhost",
        "unknown",
        "999.1.2.3",
        "1.2.3",
        "1.2.3.4.5",
        "010.1.2.3",
        "1.2.3.4/24",
        "1.2.3.4, 8.8.8.8",
        "8.8.8.8:",
        "8.8.8.8:+53",
        "8.8.8.8:99999",
        "8.8.8.8:53:54",
        ":::",
        "2001:db8::g",
        "[::1",
        "::1]",
        "[]",
        "[8.8.8.8]",
        "[::1]x",
        "[::1]:",
        "fe80::1%",
        "8.8.8.8%eth0",
        "8.8.8.8\0",
        "８.8.8.8",
        "[",
        "%",
        ":",
    ];
    for text in texts {
        assert_eq!(word(text), "invalid address", "{text:?}");
    }
    assert_eq!(word(&"1".repeat(1_000_000)), "invalid address");
}

#[test]
fn addresses_of_no_place_have_their_word() {
    let table = [
        (
            "loopback",
            [
                "127.0.0.1",
                "127.255.255.255",
                "::1",
                "[::1]:80",
                "::ffff:127.0.0.1",
            ]
            .as_slice(),
        ),
        (
            "private network",
            &[
                "10.0.0.0",
                "172.16.0.1",
                "172.31.255.255",
                "192.168.1.1:8080",
                "100.64.0.1",
                "100.127.255.255",
                "169.254.1.1",
                "fc00::1",
                "fdff::1",
                "fe80::1%eth0",
                "[fe80::1%25eth0]:80",
                "fec0::1",
                "::ffff:10.0.0.1",
            ],
        ),
        (
            "reserved address",
            &[
                "0.0.0.0",
                "::",
                "192.0.0.1",
                "192.0.2.1",
                "192.88.99.1",
                "198.18.0.1",
                "198.51.100.7",
                "203.0.113.9",
                "224.0.0.1",
                "239.255.255.255",
                "240.0.0.1",
                "255.255.255.255",
                "ff02::1",
                "2001:db8::1",
                "2001::1",
                "3fff::1",
                "100::1",
                "4000::1",
                "::8.8.8.8",
            ],
        ),
    ];
    for (expected, texts) in table {
        for text in texts {
            assert_eq!(word(text), expected, "{text}");
        }
    }
}

#[test]
fn neighbours_of_special_blocks_are_public() {
    for text in [
        "9.255.255.255",
        "11.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "223.255.254.1",
    ] {
        assert!(address::public(Some(text)).is_ok(), "{text}");
    }
}

#[test]
fn every_code_of_the_embedded_table_has_a_name() {
    let countries = Countries::get();
    let mut seen = std::collections::BTreeSet::new();
    for high in 0..=0xffff_u32 {
        seen.extend(iptocc::country_code(Ipv4Addr::from(high << 16)));
    }
    for high in 0x2000..=0x3fff_u16 {
        for low in (0..=0xffff_u16).step_by(256) {
            seen.extend(iptocc::country_code(Ipv6Addr::new(
                high, low, 0, 0, 0, 0, 0, 0,
            )));
        }
    }
    assert!(seen.len() > 200, "{}", seen.len());
    for code in seen {
        assert_ne!(countries.location(code, None).name, "unknown", "{code}");
    }
}

#[test]
fn the_names_are_whole_and_distinct() {
    let names: Vec<_> = Countries::get().all().collect();
    assert_eq!(names.len(), 250, "249 of ISO 3166-1 and XK");
    let distinct: std::collections::BTreeSet<_> =
        names.iter().map(|(_, name)| name.trim()).collect();
    assert_eq!(distinct.len(), names.len());
    assert!(distinct.iter().all(|name| !name.is_empty()));
}

#[test]
fn registry_specials_are_no_countries() {
    let countries = Countries::get();
    for (code, name) in [
        ("EU", "Europe"),
        ("AP", "Asia-Pacific"),
        ("ZZ", "unknown"),
        ("", "unknown"),
        ("Ünï", "unknown"),
    ] {
        assert_eq!(
            countries.location(code, None),
            Location::nowhere(name),
            "{code}"
        );
    }
    assert_eq!(countries.location("de", None).country_code, Some("DE"));
}

#[test]
fn a_city_database_gives_region_and_city() {
    let file = MmdbFile::new(
        "GeoLite2-City",
        6,
        &[
            (
                "8.8.8.0/24",
                "{country: {iso_code: US, names: {de: USA, en: United States}}, \
              subdivisions: [{iso_code: CA, names: {en: California}}, {names: {en: Santa Clara}}], \
              city: {geoname_id: 1, names: {de: X, en: Mountain View}}, location: {latitude: 1}}",
            ),
            (
                "9.9.9.0/24",
                "{country: {iso_code: CZ}, subdivisions: [{names: {en: Prague}}], city: {names: {en: Prague}}}",
            ),
            ("11.0.0.0/8", "{country: {iso_code: SG}}"),
            (
                "12.0.0.0/8",
                "{registered_country: {iso_code: FR}, city: {names: {fr: Nice}}}",
            ),
            ("13.0.0.0/8", "{continent: {code: EU}}"),
            (
                "2a02::/16",
                "{country: {iso_code: DE}, city: {names: {en: Berlin}}}",
            ),
        ],
    );
    let locator = file.locator();
    let text = |address| locator.locate(Some(address)).unwrap().to_string();
    let google = locator.locate(Some("8.8.8.8")).unwrap();
    assert_eq!(
        (google.country_code, google.region, google.city),
        (Some("US"), Some("California"), Some("Mountain View"))
    );
    assert_eq!(
        google.to_string(),
        "Mountain View, California, United States"
    );
    assert_eq!(text("9.9.9.9"), "Prague, Czechia");
    assert_eq!(text("11.1.1.1"), "Singapore");
    assert_eq!(text("12.1.1.1"), "France");
    assert_eq!(text("13.1.1.1"), "unknown");
    assert_eq!(
        text("14.1.1.1"),
        "unknown",
        "the embedded table is not asked"
    );
    assert_eq!(
        text("::ffff:8.8.8.8"),
        "Mountain View, California, United States"
    );
    assert_eq!(text("2a02:8109::1"), "Berlin, Germany");
    assert_eq!(text("10.0.0.1"), "private network");
}

#[test]
fn flat_databases_are_understood() {
    let file = MmdbFile::new(
        "city ipvAll",
        6,
        &[
            ("1.0.0.0/8", "{country_code: AU}"),
            (
                "2.0.0.0/8",
                "{city: Ii, country_code: FI, state1: North Ostrobothnia, state2: '', postcode: ''}",
            ),
            ("3.0.0.0/8", "{city: '', country_code: RU, state1: ''}"),
            (
                "4.0.0.0/8",
                "{country: Canada, country_code: CA, region: Ontario, city: Ottawa}",
            ),
            ("5.0.0.0/8", "{country: IT, city: Roma}"),
            ("6.0.0.0/8", "{country_code: QQ, country: Atlantis}"),
        ],
    );
    let locator = file.locator();
    let text = |address| locator.locate(Some(address)).unwrap().to_string();
    assert_eq!(text("1.1.1.1"), "Australia");
    assert_eq!(text("2.1.1.1"), "Ii, North Ostrobothnia, Finland");
    assert_eq!(text("3.1.1.1"), "Russia");
    assert_eq!(text("4.1.1.1"), "Ottawa, Ontario, Canada");
    assert_eq!(text("5.1.1.1"), "Roma, Italy");
    assert_eq!(text("6.1.1.1"), "Atlantis");
    assert_eq!(locator.locate(Some("6.1.1.1")).unwrap().country_code, None);
}

#[test]
fn an_ipv4_database_knows_no_ipv6() {
    let file = MmdbFile::new("country ipv4", 4, &[("8.0.0.0/8", "{country_code: US}")]);
    let locator = file.locator();
    assert_eq!(
        locator.locate(Some("8.8.8.8")).unwrap().country_code,
        Some("US")
    );
    assert_eq!(
        locator.locate(Some("2a02:8109::1")).unwrap().name,
        "unknown"
    );
}

#[test]
fn unusable_databases_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Locator::open(&folder.path().join("none.mmdb")).unwrap_err();
    assert!(missing.to_string().contains("none.mmdb"), "{missing}");
    let text = folder.path().join("text.mmdb");
    std::fs::write(&text, "not a database").unwrap();
    assert!(matches!(
        Locator::open(&text),
        Err(LocationError::Open { .. })
    ));
    assert!(matches!(
        Locator::open(folder.path()),
        Err(LocationError::Open { .. })
    ));
    let owners = MmdbFile::new(
        "GeoLite2-ASN",
        6,
        &[("8.0.0.0/8", "{autonomous_system_number: 1}")],
    );
    let error = Locator::open(&owners.path).unwrap_err();
    assert!(error.to_string().contains("GeoLite2-ASN"), "{error}");
    let empty = MmdbFile::new("GeoLite2-City", 6, &[]);
    assert!(matches!(
        Locator::open(&empty.path),
        Err(LocationError::NoCountries { .. })
    ));
}

#[test]
fn a_damaged_database_is_an_error_or_a_place_but_never_a_panic() {
    let file = MmdbFile::new(
        "city",
        6,
        &[
            ("8.0.0.0/8", "{country_code: US}"),
            ("9.0.0.0/8", "{country_code: DE}"),
        ],
    );
    let whole = std::fs::read(&file.path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        let path = file.path.with_extension(format!("{at}"));
        std::fs::write(&path, bytes).unwrap();
        if let Ok(locator) = Locator::open(&path) {
            let _ = locator.locate(Some("8.8.8.8"));
            let _ = locator.locate(Some("2a02:8109::1"));
        }
    }
}

#[test]
fn locators_share_an_open_file_until_it_is_replaced() {
    let file = MmdbFile::new("country", 6, &[("8.0.0.0/8", "{country_code: US}")]);
    let (first, second) = (file.locator(), file.locator());
    assert!(Arc::ptr_eq(
        first.database.as_ref().unwrap(),
        second.database.as_ref().unwrap()
    ));
    let newer = MmdbFile::new(
        "country",
        6,
        &[
            ("8.0.0.0/8", "{country_code: US}"),
            ("9.0.0.0/8", "{country_code: DE}"),
        ],
    );
    std::fs::copy(&newer.path, &file.path).unwrap();
    assert_eq!(
        file.locator().locate(Some("9.9.9.9")).unwrap().country_code,
        Some("DE")
    );
    assert_eq!(
        first.locate(Some("9.9.9.9")).unwrap().country_code,
        None,
        "an attempt keeps what it began with"
    );
}

proptest! {
    #[test]
    fn any_text_has_an_outcome(text in any::<String>()) {
        let locator = Locator::embedded();
        prop_assert!(!locator.locate(Some(&text)).unwrap().name.is_empty());
    }

    #[test]
    fn text_like_an_address_has_an_outcome(text in r"[\[\]0-9a-f:.% ]{0,50}") {
        let locator = Locator::embedded();
        prop_assert!(!locator.locate(Some(&text)).unwrap().name.is_empty());
    }

    #[test]
    fn any_address_is_read_in_all_its_forms(address in any::<IpAddr>(), port in any::<u16>()) {
        let locator = Locator::embedded();
        let plain = locator.locate(Some(&address.to_string())).unwrap();
        prop_assert_ne!(plain.name, "invalid address");
        let with_port = std::net::SocketAddr::new(address, port).to_string();
        prop_assert_eq!(locator.locate(Some(&with_port)).unwrap(), plain);
        prop_assert_eq!(plain.country_code.is_none(), Countries::get().all().all(|(_, name)| name != plain.name));
    }
}
