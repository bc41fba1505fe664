//! Does the example become a network, and is every mistake refused with what to change?

use lockstep_protocol::genesis::Format;

use super::*;
use crate::keys::{DealOptions, Place, deal};

fn rollups() -> Vec<Rollup> {
    [900, 901].map(|id| Rollup::new(RollupId(id), format!("r{id}"), Format::Eip2718, 1)).to_vec()
}

fn read_text(text: &str) -> Result<(Settlements, Vec<Rollup>), String> {
    let mut rollups = rollups();
    settlements(text, &mut rollups).map(|settlements| (settlements, rollups))
}

/// The example with one line, or a part of it, changed.
fn refused(from: &str, to: &str) -> String {
    assert!(SETTLEMENT_EXAMPLE.contains(from), "the example has no {from}");
    read_text(&SETTLEMENT_EXAMPLE.replacen(from, to, 1)).map(|_| ()).expect_err(to)
}

#[test]
fn the_example_says_what_its_comments_say() {
    let (settlements, rollups) = read_text(SETTLEMENT_EXAMPLE).expect("the example is good");
    let Settlements { config, nodes } = settlements;
    let usdc = AssetId::from_symbol("USDC");
    assert_eq!(config.apply_window, 8192);
    assert_eq!(config.assets, [Asset { asset: usdc, account_cap: 250_000_000_000 }]);
    let corridor = |from, to| Corridor { from: RollupId(from), to: RollupId(to), asset: usdc, cap: 1_000_000_000_000 };
    assert_eq!(config.corridors, [corridor(900, 901), corridor(901, 900)]);
    assert_eq!(nodes, [RollupConfig::new(RollupId(900), "http://127.0.0.1:9545".into(), Some(250)).unwrap()]);
    let part = rollups[0].settlement.as_ref().expect("it takes part");
    assert_eq!((part.hub.0[19], part.escrows[0].0[19], part.settled_level), (0xa1, 0xb1, Level::Final));
    assert!(rollups[1].settlement.is_some());
}

#[test]
fn what_is_listed_in_any_order_is_sorted_as_a_genesis_must_be() {
    let account = |byte: u8| format!("\"secp256k1:0x{}\"", format!("{byte:02x}").repeat(20));
    let [a, b, c] = [1, 2, 3].map(account);
    let text = SETTLEMENT_EXAMPLE
        .replacen("posters = []", &format!("posters = [{c}, {a}]"), 1)
        .replacen("liquidators = []", &format!("liquidators = [{b}, {a}]"), 1)
        .replacen("liquidation_bytes = 0", "liquidation_bytes = 65536", 1);
    let (forth, back) = ("from = 900\nto = 901", "from = 901\nto = 900");
    let swapped = text.replacen(back, "?", 1).replacen(forth, back, 1).replacen('?', forth, 1);
    let (settlements, rollups) = read_text(&swapped).expect("good");
    assert!(rollups[0].posters.is_sorted() && rollups[0].posters.len() == 2);
    assert!(rollups[0].liquidators.is_sorted() && rollups[0].liquidators.len() == 2);
    assert_eq!(rollups[0].liquidation_bytes, 65_536);
    assert_eq!(settlements.config, read_text(SETTLEMENT_EXAMPLE).expect("good").0.config);
    let twice = read_text(&text.replacen(back, forth, 1)).map(|_| ()).expect_err("one corridor twice");
    assert!(twice.contains("listed twice"), "{twice}");
}

#[test]
fn every_mistake_is_refused_with_the_line_and_what_to_do() {
    for (from, to, told) in [
        ("apply_window = 8192", "apply_window = 0", "1 to 8192"),
        ("apply_window = 8192", "apply_windows = 8192", "unknown field"),
        (
            "account_cap = \"250000000000\"",
            "account_cap = \"2.5\"",
            "asset USDC: account_cap = \"2.5\": expected decimal digits",
        ),
        ("account_cap = \"250000000000\"", "account_cap = \"+5\"", "decimal digits"),
        ("account_cap = \"250000000000\"", "account_cap = \"0\"", "leave it out"),
        ("account_cap = \"250000000000\"", "account_cap = 250000000000", "expected a string"),
        ("asset = \"USDC\"", "asset = \"\"", "symbol"),
        ("asset = \"USDC\"", "asset = \"0x12\"", "not the id of an asset"),
        ("asset = \"USDC\"", "asset = \"DAI\"", "corridor USDC from 900 to 901: its asset has no [[assets]]"),
        ("[[rollups]]                     # once", "[[unknown]]                     # once", "unknown field"),
        ("id = 901", "id = 900", "rollup 900: it is listed twice"),
        ("id = 901", "id = 902", "rollup 902: it is not among --rollups (900, 901)"),
        ("00a1", "00b1", "hub and escrow at once"),
        ("0x00000000000000000000000000000000000000a1", "0x0000000000000000000000000000000000000000", "deploy first"),
        ("0x00000000000000000000000000000000000000a1", "0xa1", "hub: \"0xa1\" is no address"),
        ("[\"0x00000000000000000000000000000000000000b2\"]", "[]", "rollup 901: escrows: list 1 to 64"),
        ("settled_level = \"final\"", "settled_level = \"settled\"", "unknown variant"),
        (
            "posters = []",
            "posters = [\"0x12\"]",
            "rollup 900: posters: \"0x12\": expected ed25519:0x.. or secp256k1:0x..",
        ),
        ("liquidation_bytes = 0", "liquidation_bytes = 9", "liquidators need a share"),
        ("rpc = \"http://127.0.0.1:9545\"", "rpc = \"https://127.0.0.1\"", "http:// URL"),
        ("rpc = \"http://127.0.0.1:9545\"", "", "there is no rpc"),
        ("poll_ms = 250", "poll_ms = 1", "poll_ms must be 50 to 60000"),
        ("to = 901", "to = 900", "it leads nowhere"),
        ("to = 901", "to = 902", "rollup 902 has no [[rollups]] here"),
        ("cap = \"1000000000000\"", "cap = \"\"", "cap = \"\": expected decimal digits"),
        ("from = 901", "from = 900\nfee = 1", "unknown field"),
    ] {
        let error = refused(from, to);
        assert!(error.contains(told), "{to}: {error}");
    }
    let liquidators = format!("liquidators = [\"ed25519:0x{}\"]", "11".repeat(32));
    assert!(refused("liquidators = []", &liquidators).contains("liquidation_bytes = 0 with 1 liquidators"));
    let one = SETTLEMENT_EXAMPLE.split("[[rollups]]").take(2).collect::<Vec<_>>().join("[[rollups]]");
    assert!(read_text(&one).map(|_| ()).expect_err("one rollup").contains("two rollups at least"));
    let none = SETTLEMENT_EXAMPLE.split("[[corridors]]").next().expect("a part");
    assert!(read_text(none).map(|_| ()).expect_err("no corridor").contains("without one nothing moves"));
}

#[test]
fn a_dealt_network_has_its_part_in_the_genesis_and_its_nodes_in_every_configuration() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("settlement.toml");
    std::fs::write(&file, SETTLEMENT_EXAMPLE).expect("written");
    let mut rollups = rollups();
    let Settlements { config, nodes } = load_settlements(&file, &mut rollups).expect("good");
    let address = |port| ([127, 0, 0, 1], port).into();
    let dealt = deal(DealOptions {
        network: "settlements".into(),
        rollups,
        balances: Vec::new(),
        places: (0..2).map(|index| Place { p2p: address(1000 + index), rpc: address(2000 + index) }).collect(),
        pace: crate::config::Pace::default(),
        l1: None,
        settlement: Some(config.clone()),
        rollup_nodes: nodes.clone(),
        out: folder.path().join("net"),
    })
    .expect("dealt");
    let genesis = crate::keys::load_genesis(&dealt.genesis_file).expect("a genesis");
    assert_eq!(genesis.settlement, Some(config));
    assert!(genesis.rollups.iter().all(|rollup| rollup.settlement.is_some()));
    for validator in &dealt.validators {
        let config = crate::config::Config::load(&validator.config).expect("a configuration");
        assert_eq!(config.rollups, nodes);
    }
    std::fs::write(&file, "nothing = 1").expect("written");
    let error = load_settlements(&file, &mut []).expect_err("not the file").to_string();
    assert!(error.contains("settlement.toml") && error.contains("lockstep keys settlement"), "{error}");
    let error = load_settlements(&folder.path().join("none"), &mut []).expect_err("no file").to_string();
    assert!(error.contains("cannot read"), "{error}");
}
