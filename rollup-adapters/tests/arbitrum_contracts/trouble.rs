//! Does the Nitro side wait for an L1 that fails, is gone, or is dear?

use std::{fs, sync::Arc, time::Duration};

use lockstep_adapters::{
    arbitrum::post::{PostError, Target},
    poster::{L1, Rpc, SendError},
};
use serde_json::{Value, json};

use crate::{
    city::{City, DEPTH, transaction},
    proxy::{Fault, Proxy},
};

/// Patience with one question.
const TIMEOUT: Duration = Duration::from_millis(500);

#[tokio::test]
async fn an_l1_that_fails_or_is_gone_is_waited_for() {
    let Some((anvil, beacon, mut city)) = City::begin("down", true, DEPTH).await else { return };
    let mut proxy = Proxy::start(&anvil.url, |_, _| Fault::None).await;
    city.reach = Arc::new(L1::new(Rpc::new(&proxy.url, TIMEOUT, None).expect("an address")));
    let elsewhere = city.folder.with_extension("none");
    city.stream = city.another(&elsewhere).await;
    let faults = [
        Some(Fault::Lost),
        Some(Fault::Unanswered),
        Some(Fault::Nonsense),
        Some(Fault::Error(-32_603, "internal error")),
        Some(Fault::Late(Duration::from_millis(20))),
        Some(Fault::Late(Duration::from_secs(3_600))),
        None,
    ];
    for (index, fault) in (0..).zip(faults) {
        let name = format!("{fault:?}");
        let mut poster = city.poster(0, if index % 2 == 0 { Target::Calldata } else { Target::Blobs }).await;
        city.contracts.delayed(&[index as u8; 40], "sendL2Message(bytes)").await;
        city.contracts.mine(DEPTH).await;
        city.order(vec![transaction(index, 400)]).await;
        let slow = matches!(fault, Some(Fault::Late(late)) if late < TIMEOUT);
        match fault {
            // Some requests in a row, time and again; a round takes some thirty.
            Some(fault) => proxy.judge(move |number, _| if number % 64 < 3 { fault.clone() } else { Fault::None }),
            None => proxy.die().await,
        }
        let mut gone = name == "None";
        let mut failures = 0;
        loop {
            if gone && failures == 6 {
                proxy.revive().await;
                gone = false;
            }
            if city.stream.position().height.0 < city.height
                && let Err(error) = city.stream.next().await
            {
                failures += 1;
                assert!(error.to_string().len() > 20, "{name}: {error}");
                continue;
            }
            match poster.round().await {
                Ok(true) => {}
                Ok(false) if city.stream.position().height.0 == city.height => break,
                Ok(false) => {}
                // Our own, whose answer was lost.
                Err(PostError::Reverted { .. }) => {}
                Err(error) => {
                    failures += 1;
                    assert!(error.to_string().len() > 20, "{name}: {error}");
                }
            }
            assert!(failures < 1_000, "{name}: it never gets there");
        }
        assert!(slow || failures > 0, "{name} was not noticed");
        proxy.judge(|_, _| Fault::None);
        assert_eq!(city.posted().await, city.stream.position().next(), "{name}");
    }
    assert_eq!(city.contracts.derived(&beacon).await, city.meant(), "nothing twice, nothing left out");
    for folder in [&elsewhere, &city.folder] {
        drop(fs::remove_dir_all(folder));
    }
}

#[tokio::test]
async fn a_spike_of_l1s_base_fee_is_told_and_waited_out() {
    let Some((_anvil, beacon, mut city)) = City::begin("dear", false, DEPTH).await else { return };
    let mut poster = city.poster(0, Target::Calldata).await;
    city.lane_block(vec![transaction(1, 400)]).await;
    let base_fee = async |city: &City, gwei: u64| {
        let wei = json!(format!("{:#x}", gwei * 1_000_000_000));
        let set: Result<Value, _> = city.contracts.l1.rpc().call("anvil_setNextBlockBaseFeePerGas", &[wei]).await;
        set.expect("anvil sets it");
        city.contracts.mine(1).await;
    };
    base_fee(&city, 5_000).await;
    let before = city.posted().await;
    for _ in 0..3 {
        let told = poster.round().await.expect_err("it is too dear");
        assert!(matches!(told, PostError::Send(SendError::TooDear { .. })), "{told}");
    }
    assert_eq!(city.posted().await, before);
    base_fee(&city, 1).await;
    while poster.round().await.expect("posts") {}
    assert_eq!(city.posted().await, city.stream.position().next());
    assert_eq!(city.contracts.derived(&beacon).await, city.meant());
    fs::remove_dir_all(&city.folder).expect("cleans up");
}
