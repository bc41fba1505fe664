//! Does the program itself start from its files, tell how it goes, and end when it is told to?

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use alloy_primitives::hex;
use lockstep_adapters::settings::optimism::POST_EXAMPLE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{BATCHER, Miner, Wallet, World, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lockstep-rollup");

/// Ends with the test, however that ends.
pub(crate) struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(PROGRAM).args(arguments).output().expect("the program starts");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    (output.status.success(), text)
}

/// The example, with what is here instead of what it says.
pub(crate) fn configure(world: &World, rpc: &str, l1: &str, port: u16) -> PathBuf {
    let folder = world.folder.path();
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let key = write("batcher.key", &hex::encode(BATCHER));
    std::fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("permissions");
    write("rollup.json", &world.json);
    let text = POST_EXAMPLE
        .replace("http://127.0.0.1:8545", rpc)
        .replace("http://127.0.0.1:9545", l1)
        .replace("127.0.0.1:7301", &format!("127.0.0.1:{port}"))
        .replace("enough_bytes = 200000", "enough_bytes = 1")
        .replace("max_delay_seconds = 120", "max_delay_seconds = 0")
        .replace("poll_ms = 1000", "poll_ms = 20");
    write("post.toml", &text)
}

async fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    Some(text)
}

pub(crate) fn start(config: &Path) -> Program {
    let program = Command::new(PROGRAM)
        .args(["post", "optimism", "--log", "warn", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .spawn();
    Program(program.expect("the program starts"))
}

#[tokio::test]
async fn the_poster_posts_tells_survives_a_kill_and_ends_cleanly() {
    let mut wallet = Wallet::new(1);
    let mut world = World::new(std::slice::from_ref(&wallet)).await;
    world.pass(40, |_| vec![wallet.transfer()]).await;
    let client = world.client().await;
    let driver = world.drive_directly(&client);
    world.wait_for_head(&client).await;
    let miner = Miner::start(&world.l1);
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
    let config = configure(&world, &client.rpc, &world.l1.rpc_url(), port);
    // Killed once, early: what it had begun is found on L1 or in its pool.
    let first = start(&config);
    while get(port, "/status").await.is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(first);
    let mut program = start(&config);
    let safe = format!("lockstep_rollup_safe_block {}\n", world.target());
    let metrics = loop {
        let metrics = get(port, "/metrics").await.unwrap_or_default();
        if metrics.contains(&safe) {
            break metrics;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(metrics.contains("lockstep_rollup_derivation_agreed 1\n"), "{metrics}");
    for counted in ["l1_transactions_included", "batches_posted", "derived_blocks"] {
        let (kind, sample) =
            (format!("# TYPE lockstep_rollup_{counted} counter\n"), format!("lockstep_rollup_{counted}_total "));
        let (_, after) = metrics.split_once(&kind).unwrap_or_else(|| panic!("{counted}: {metrics}"));
        assert!(after.starts_with(&sample), "{counted}: {metrics}");
    }
    assert!(get(port, "/healthz").await.is_some_and(|text| text.starts_with("HTTP/1.1 200")));
    assert!(get(port, "/status").await.is_some_and(|text| text.contains("\"agreed\": true")));
    assert!(get(port, "/secrets").await.is_some_and(|text| text.starts_with("HTTP/1.1 404")));
    let terminated = Command::new("kill").arg(program.0.id().to_string()).status().expect("kill runs");
    assert!(terminated.success());
    let mut ended = None;
    until("it ends when it is told to", || {
        ended = program.0.try_wait().expect("it can be asked");
        ended.is_some()
    })
    .await;
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    driver.stop().await;
    miner.stop().await;
}

#[test]
fn help_teaches_and_what_is_wrong_is_named() {
    for (arguments, says) in [
        (&["--help"][..], "drive"),
        (&["drive", "optimism", "--help"], "rollup.json"),
        (&["post", "optimism", "--help"], "mode 0600"),
        (&["relay", "--help"], "genesis.json, which names the rollup's hub and escrows"),
        (&["relay", "--print-config"], "[apply.signer]"),
        (&["drive", "optimism", "--print-config"], "[execution]"),
        (&["post", "optimism", "--print-config"], "[signer]"),
    ] {
        let (succeeded, text) = run(arguments);
        assert!(succeeded && text.contains(says), "{arguments:?}: {text}");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("post.toml");
    std::fs::write(&path, format!("surprise = 1\n{POST_EXAMPLE}")).expect("written");
    let path = path.to_str().expect("text");
    for (arguments, says) in [
        (&["post", "optimism"][..], "--config"),
        (&["post", "optimism", "--config", "/nowhere.toml"], "/nowhere.toml"),
        (&["post", "optimism", "--config", path], "surprise"),
        (&["drive", "nothing"], "nothing"),
    ] {
        let (succeeded, text) = run(arguments);
        assert!(!succeeded && text.contains(says), "{arguments:?}: {text}");
    }
}
