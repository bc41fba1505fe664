use futures::future::join_all;

use super::*;
use crate::fixture::*;

#[test]
fn every_submitter_gets_the_answer_to_its_own_bundle() {
    let view = View::funded();
    let pool = pool(&view);
    let admission = Admission::start(pool.clone()).unwrap();
    let bundles: Vec<_> = (0..200).map(|index| signed(index % ACCOUNTS, u64::from(index / ACCOUNTS), 5)).collect();
    let submissions = bundles.iter().enumerate().map(|(index, good)| {
        let mut signed = good.clone();
        if index % 3 == 0 {
            signed.bundle.tip += 1;
        }
        admission.submit(signed)
    });
    let answers = futures::executor::block_on(join_all(submissions));
    for (index, (answer, good)) in answers.iter().zip(&bundles).enumerate() {
        match index % 3 {
            0 => assert_eq!(*answer, Err(Refusal::BadSignature)),
            _ => assert_eq!(answer.as_ref().unwrap().bundle_id, good.bundle.id()),
        }
    }
    assert_eq!(pool.usage().bundles, answers.iter().filter(|answer| answer.is_ok()).count());
}

#[test]
fn more_than_can_be_checked_is_refused_at_once() {
    let view = View::funded();
    let pool = pool(&view);
    let (jobs, queue) = mpsc::channel(1);
    let admission = Admission { pool: pool.clone(), jobs };
    let first = admission.submit(signed(0, 0, 5));
    let second = admission.submit(signed(1, 0, 5));
    let answers = futures::executor::block_on(async {
        futures::join!(first, async {
            let answer = second.await;
            drop(queue);
            answer
        })
    });
    assert_eq!(answers.1.unwrap_err().reason(), "not_ready");
    assert_eq!(answers.0, Err(stopping()), "and a node that stops says so");
    let counted = pool.metrics().refused.get_or_create(&crate::labels::ReasonLabel { reason: "not_ready" }).get();
    assert_eq!(counted, 1);
}
