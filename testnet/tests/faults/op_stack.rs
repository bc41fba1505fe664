//! Does the city keep its promises on software of the OP Stack that no one here wrote, and can that be killed like the rest?
//!
//! Where op-geth or op-node is not installed, what needs it is skipped, and says so.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use lockstep_testnet::{
    city::{City, Part},
    rollups::{L1Kind, OpStack, View},
};
use tokio::time::sleep;

use super::{
    EXECUTABLE, turn,
    venues::{DEAD, assert_settled, settles, trading_city},
};

/// How long op-node may take to what L1 has.
const PATIENCE: Duration = Duration::from_secs(90);

fn op_stack() -> Option<OpStack> {
    match OpStack::find() {
        Ok(found) => {
            if found.node.is_none() {
                eprintln!("skipped: op-node (not installed)");
            }
            Some(found)
        }
        Err(error) => {
            eprintln!("skipped: op-geth ({error})");
            None
        }
    }
}

/// How far op-node has come with what L1 has, as long as that is what was executed.
fn op_node(view: &View) -> Option<u64> {
    view.rollups[0].stock.filter(|stock| stock.agreed).and_then(|stock| stock.safe)
}

/// Waits until op-node has come further than it is, and agrees there: a client that was killed may show a block of its own for a
/// moment, until its driver has told it again.
async fn goes_on(city: &mut City, claim: &str) {
    let rollups = city.rollups().expect("joined");
    let before = op_node(&rollups.view());
    let further = rollups.reach(PATIENCE, |view| op_node(view) > before).await;
    assert!(further, "{claim}: {:#?}", rollups.view());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn margin_settles_on_op_geth_and_op_node_finds_the_same_blocks_on_l1_whichever_of_them_is_killed() {
    let Some(stack) = op_stack() else { return };
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let has_node = stack.node.is_some();
    let mut city = trading_city(folder.path(), L1Kind::Embedded, Some(stack), false).await;
    settles(&city, 3, "transfers settle").await;
    let log = std::fs::read_to_string(folder.path().join("city/op/op-geth/op-geth.log")).expect("op-geth logs");
    assert!(log.contains("Imported new potential chain segment") || log.contains("Chain head was updated"), "{log}");
    let mut parts = vec!["op-execution", "op-driver"];
    if has_node {
        parts.extend(["op-node", "op-node-execution"]);
        goes_on(&mut city, "op-node derives").await;
    }
    let all = city.rollup_parts();
    assert_eq!(all.len(), if has_node { 13 } else { 11 }, "{all:?}");
    for part in parts {
        let killed = Part::Rollup(part.to_owned());
        city.kill_part(&killed).expect("killed");
        sleep(DEAD).await;
        city.start_part(&killed).expect("started again");
        settles(&city, 2, &format!("transfers settle after {part} was killed")).await;
        if has_node {
            goes_on(&mut city, &format!("op-node goes on after {part} was killed")).await;
        }
    }
    let ending = city.finish().await;
    assert_settled(&ending);
    if has_node {
        let executed = ending.promises.iter().find(|promise| promise.promise.contains("L1 leads to the same"));
        assert!(executed.is_some_and(|promise| promise.detail.contains("by op-node")), "{ending:#?}");
    }
    assert_eq!(city.rollups().expect("joined").failed().expect("looked after"), None);
    city.stop_all().await.expect("everything stops when it is asked to");
}

/// What the testnet says where nothing is installed but what these variables name.
fn said_without(named: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(EXECUTABLE);
    command.current_dir(folder.path()).args(["--op-geth", "--for", "1s"]).stdin(Stdio::null());
    for variable in ["LOCKSTEP_OP_GETH", "LOCKSTEP_OP_NODE", "LOCKSTEP_BUILD_DIR"] {
        command.env_remove(variable);
    }
    command.envs(named.iter().copied()).env("HOME", folder.path()).env("PATH", folder.path());
    let output = command.output().expect("the testnet runs");
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn without_op_geth_the_flag_names_the_script_that_installs_it() {
    let said = said_without(&[]);
    assert!(said.contains("op-geth is not installed") && said.contains("judges/optimism/run.sh"), "{said}");
}

#[test]
fn a_program_that_cannot_be_started_is_named_before_anything_is() {
    for variable in ["LOCKSTEP_OP_GETH", "LOCKSTEP_OP_NODE"] {
        // Any program that answers does for the other.
        let named =
            [("LOCKSTEP_OP_GETH", EXECUTABLE), ("LOCKSTEP_OP_NODE", EXECUTABLE), (variable, "/no/such/program")];
        let said = said_without(&named);
        assert!(said.contains(variable) && said.contains("/no/such/program, which cannot be started"), "{said}");
    }
}
