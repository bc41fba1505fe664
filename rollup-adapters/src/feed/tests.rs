//! Is the height that closes a block always found, and nothing lost on the way?

use lockstep_protocol::header::L1Origin;

use super::*;
use crate::conformance::Seed;

/// A dense lane in memory that tells what a network would: heights with content, and now and then how far there was nothing.
struct Dense {
    lane: Vec<LaneBlock>,
    at: usize,
    headers: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl LaneSource for Dense {
    fn next(&mut self) -> Answer<'_, LaneBlock> {
        let rest = &self.lane[self.at..];
        let quiet = rest.iter().take(40).take_while(|block| block.transactions.is_empty()).count();
        let step = if quiet == 40 { 40 } else { (quiet + 1).min(rest.len()) };
        self.at += step;
        let block = self.lane[self.at - 1].clone();
        Box::pin(async move { Ok(block) })
    }

    fn header(&mut self, height: Height) -> Answer<'_, LaneBlock> {
        self.headers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let block = LaneBlock { transactions: vec![], ..self.lane[height.0 as usize - 1].clone() };
        Box::pin(async move { Ok(block) })
    }

    fn tip(&mut self) -> Answer<'_, LaneBlock> {
        self.header(Height(self.lane.len() as u64))
    }

    fn seek(&mut self, after: Height) -> Answer<'_, ()> {
        self.at = after.0 as usize;
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn sparse_feeds_lead_to_the_same_closing_heights_as_dense_ones() {
    for seed in 0..40 {
        let mut draw = Seed(seed);
        let (rarely, mut clock) = (1 + draw.below(200), 10_000);
        let lane: Vec<_> = (1..3_000)
            .map(|height| {
                let pause = if draw.below(50) == 0 { 9_000 } else { 300 };
                clock += 1 + draw.below(pause);
                let busy = draw.below(rarely) == 0;
                LaneBlock {
                    rollup: RollupId(7),
                    height: Height(height),
                    timestamp_ms: clock,
                    l1: L1Origin { number: height / 10, ..Default::default() },
                    transactions: if busy { vec![vec![1]] } else { vec![] },
                }
            })
            .collect();
        let headers = std::sync::Arc::default();
        let told = Dense { lane: lane.clone(), at: 0, headers: std::sync::Arc::clone(&headers) };
        let mut feed = LaneFeed::new(Box::new(told), RollupId(7));
        let mut ms = 9_000 + draw.below(200_000);
        feed.seek(ms).await.expect("in memory");
        let (mut closed, mut found) = (0, vec![]);
        let begin = ms;
        while ms + 2_000 < clock {
            ms += 2_000;
            feed.close(ms).await.expect("in memory");
            let expected = lane.iter().find(|block| block.timestamp_ms >= ms).expect("not the end");
            let at = feed.blocks().partition_point(|block| block.timestamp_ms < ms);
            assert_eq!(feed.blocks()[at].height, expected.height, "seed {seed}, {ms} ms");
            let fresh = |block: &&LaneBlock| block.timestamp_ms > ms - 2_000 && block.timestamp_ms <= ms;
            found.extend(feed.blocks().iter().filter(fresh).filter(|block| !block.transactions.is_empty()).cloned());
            feed.forget_before(ms);
            closed += 1;
        }
        let all: Vec<_> = lane
            .iter()
            .filter(|block| block.timestamp_ms > begin && block.timestamp_ms <= ms && !block.transactions.is_empty())
            .cloned()
            .collect();
        assert_eq!(found, all, "seed {seed}: everything that is in the lane, once");
        let headers = headers.load(std::sync::atomic::Ordering::Relaxed);
        assert!(headers < 20 + closed * 8, "seed {seed}: {headers} headers for {closed} blocks");
    }
}
