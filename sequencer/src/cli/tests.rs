//! Does the command line take what its help shows, and refuse the rest with a reason?

use super::*;
use clap::Parser;

#[derive(Parser)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

fn answer(arguments: &[&str]) -> Result<String, String> {
    let program = Program::try_parse_from([&["lockstep"], arguments].concat()).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    run(program.command, &mut out).map_err(|error| error.to_string())?;
    String::from_utf8(out).map_err(|error| error.to_string())
}

#[test]
fn a_key_is_made_shown_and_funded_in_a_dealt_network() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let account = answer(&["keys", "new", "--out", &path("maker.key")]).expect("made");
    assert_eq!(answer(&["keys", "show", &path("maker.key")]).expect("shown"), account);
    assert!(answer(&["keys", "new", "--out", &path("maker.key")]).is_err(), "a key file is never overwritten");

    let fund = format!("{}=7", account.trim());
    let net = path("net");
    let deal = [
        "keys",
        "deal",
        "--validators",
        "2",
        "--network",
        "n",
        "--rollups",
        "901:b:3,900:a",
        "--fund",
        &fund,
        "--out",
        &net,
    ];
    let told = answer(&deal).expect("dealt");
    assert!(told.contains("validator-1/node.toml"), "{told}");
    let genesis = keys::load_genesis(&folder.path().join("net/genesis.json")).expect("a genesis");
    assert_eq!(
        genesis.rollups.iter().map(|rollup| (rollup.id.0, rollup.min_base_fee)).collect::<Vec<_>>(),
        [(900, 1), (901, 3)]
    );
    assert_eq!(genesis.balances[0].credits, 7);
    assert!(answer(&deal).is_err(), "a network is never dealt over another");
}

#[test]
fn wrong_arguments_are_refused_with_what_was_expected() {
    let out = tempfile::tempdir().expect("a temporary folder").path().join("net").display().to_string();
    let deal = |extra: &[&str]| {
        answer(&[&["keys", "deal", "--network", "n", "--out", &out], extra].concat()).expect_err("wrong arguments")
    };
    assert!(deal(&["--validators", "1", "--rollups", "alpha"]).contains("id:name"));
    assert!(deal(&["--validators", "1", "--rollups", "x:alpha"]).contains("number"));
    assert!(deal(&["--validators", "1", "--rollups", "1:a", "--fund", "0x00=1"]).contains("ed25519"));
    assert!(deal(&["--validators", "0", "--rollups", "1:a"]).contains("0 validators"));
    assert!(deal(&["--validators", "9", "--rollups", "1:a", "--rpc-port", "65530"]).contains("65535"));
    assert!(answer(&["node"]).expect_err("no file").contains("--config"));
    assert!(answer(&["node", "--config", "no/such.toml"]).expect_err("no file").contains("no/such.toml"));
}

#[test]
fn a_network_with_settlements_is_dealt_from_the_printed_example() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let example = answer(&["keys", "settlement"]).expect("printed");
    std::fs::write(path("settlement.toml"), &example).expect("written");
    let (net, file) = (path("net"), path("settlement.toml"));
    let deal = |rollups: &str| {
        let what = ["keys", "deal", "--validators", "1", "--network", "n", "--rollups", rollups, "--out", &net];
        answer(&[what.as_slice(), &["--settlement", &file]].concat())
    };
    let error = deal("900:a,902:b").expect_err("901 is missing");
    assert!(error.contains("rollup 901: it is not among --rollups (900, 902)"), "{error}");
    deal("900:a,901:b").expect("dealt");
    let genesis = keys::load_genesis(&folder.path().join("net/genesis.json")).expect("a genesis");
    assert_eq!(genesis.settlement.map(|settlement| settlement.corridors.len()), Some(2));
}

#[test]
fn the_printed_example_is_the_example() {
    assert_eq!(answer(&["node", "--print-config"]).expect("printed"), config::EXAMPLE);
}
