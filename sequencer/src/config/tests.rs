//! Does a configuration file mean what the example says, and is everything else refused?

use super::*;

fn load(text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("node.toml");
    std::fs::write(&path, text).expect("written");
    Config::load(&path).map(|mut config| {
        // The folder is gone when the test looks: take its name off again.
        let keys = [&mut config.keys.validator, &mut config.keys.share].into_iter();
        let public = config.public.as_mut().map(|public| &mut public.key);
        for path in keys.chain(public).chain([&mut config.genesis, &mut config.data]) {
            *path = path.strip_prefix(folder.path()).expect("relative to the file").to_owned();
        }
        config
    })
}

#[test]
fn the_example_holds_every_key_at_its_default() {
    let config = load(EXAMPLE).expect("the example is a configuration");
    assert_eq!(config.rpc, Rpc::default());
    assert_eq!(config.pace, Pace::default());
    assert_eq!(config.pool, Pool::default());
    assert_eq!(config.retention, Retention::default());
    assert_eq!(config.log, Log::default());
    let listen = config.public.as_ref().expect("shown").listen.clone();
    assert_eq!(config.public, Some(PublicConfig { listen, ..PublicConfig::default() }));
    let written: toml::Table = toml::from_str(&config.to_toml()).expect("its own text parses");
    let example: toml::Table = toml::from_str(EXAMPLE).expect("the example parses");
    assert_eq!(written, example, "a key is missing in the example, or in the configuration");
}

#[test]
fn what_is_written_is_read_back() {
    let mut config = load(EXAMPLE).expect("the example is a configuration");
    config.p2p.peers.insert(Hash32([7; 32]), "127.0.0.1:9".parse().expect("an address"));
    config.log.format = LogFormat::Json;
    assert_eq!(load(&config.to_toml()).expect("its own text"), config);
}

#[test]
fn unknown_keys_are_refused_with_their_name() {
    for (section, key) in [
        ("", "hartbeat"),
        ("[rpc]", "port"),
        ("[keys]", "seed"),
        ("[p2p]", "bootstrap"),
        ("[log]", "x"),
        ("[public]", "x"),
    ] {
        let text = if section.is_empty() {
            format!("{key} = 1\n{EXAMPLE}")
        } else {
            EXAMPLE.replacen(section, &format!("{section}\n{key} = 1"), 1)
        };
        let error = load(&text).expect_err("an unknown key").to_string();
        assert!(error.contains(key) && error.contains("unknown field"), "{error}");
    }
}

#[test]
fn a_key_in_the_file_itself_is_refused() {
    let text = EXAMPLE.replace("validator = \"validator.key\"", "validator = [1, 2, 3]");
    assert!(matches!(load(&text), Err(ConfigError::Parse { .. })));
}

#[test]
fn contradictions_are_refused_with_the_rule() {
    for (from, to, rule) in [
        ("heartbeat_ms = 1000", "heartbeat_ms = 0", "heartbeat_ms must be"),
        ("min_interval_ms = 20", "min_interval_ms = 2000", "must not exceed"),
        ("max_bytes = 50331648", "max_bytes = 10", "one full body"),
        ("poll_ms = 5000", "poll_ms = 1", "public.poll_ms"),
        ("max_connections = 1024", "max_connections = 0", "at least 1"),
    ] {
        let error = load(&EXAMPLE.replace(from, to)).expect_err("a contradiction").to_string();
        assert!(error.contains(rule), "{error}");
    }
}

#[test]
fn a_missing_file_says_how_to_get_one() {
    let error = Config::load(Path::new("no/such/node.toml")).expect_err("no file").to_string();
    assert!(error.contains("no/such/node.toml") && error.contains("--print-config"), "{error}");
}

#[test]
fn posters_are_asked_where_they_can_be_checked() {
    let posters = "posters = [\"http://127.0.0.1:7301\"]";
    for (rule, text) in [
        ("it must be an http:// URL", EXAMPLE.replacen(posters, "posters = [\"127.0.0.1:7301\"]", 1)),
        ("invalid", EXAMPLE.replacen(posters, "posters = [\"http://a b\"]", 1)),
        ("at most 4 posters", EXAMPLE.replacen(posters, &format!("posters = {:?}", ["http://127.0.0.1:1"; 5]), 1)),
    ] {
        let error = load(&text).expect_err(rule).to_string();
        assert!(error.contains("rollups, 901") && error.contains(rule), "{error}");
    }
    let mut config = load(EXAMPLE).expect("the example is a configuration");
    config.l1 = None;
    let error = load(&config.to_toml()).expect_err("nothing to check them with").to_string();
    assert!(error.contains("posters need a section [l1]"), "{error}");
    config.rollups[0].posters.clear();
    load(&config.to_toml()).expect("without posters, no L1 is needed");
}
