//! Where does a validator keep what, and in which portions?
//!
//! Names and sizes of partitions. Formats belong to commonware-storage.

use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};

use commonware_runtime::buffer::paged::CacheRef;
use commonware_storage::{
    archive::prunable, journal::contiguous::fixed::Config as LogConfig, merkle::full::Config as MerkleConfig,
    qmdb::current::FixedConfig, translator::EightCap,
};
use commonware_utils::{NZU64, NZUsize};

use crate::types::{STRATEGY, Strategy};

/// Bytes per page of every journal. Changing it is a format change: stored blobs would be cut off.
const PAGE: NonZeroU16 = commonware_runtime::buffer::paged::page_size(4096);

/// How much a validator reads, buffers and stores at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Pages held in memory.
    pub(crate) pages: NonZeroUsize,
    /// Buffer for writes to a journal, and for reading one back at start.
    pub(crate) buffer: NonZeroUsize,
    /// Blocks per file of the archive, the unit of pruning. All its files are open: four for each section that is kept.
    /// Fixed for the life of a directory.
    pub(crate) archive_section: NonZeroU64,
    /// Views per file of what is not final yet. What is forgotten goes by whole files, with bodies of a megabyte.
    pub(crate) cache_section: NonZeroU64,
    /// Operations per file of the state's log, the unit of pruning. All its files are open. Fixed for the life of a directory.
    pub(crate) state_blob: NonZeroU64,
    /// Keys remembered while the state's index is rebuilt at start. Below the number of live keys a start with a million
    /// keys takes 42 s instead of 5; each costs some 50 bytes, for the start only.
    pub(crate) init_keys: NonZeroUsize,
}

impl Sizes {
    /// 32 MiB of pages, and files of some hundred megabytes at most.
    pub(crate) const DISK: Self = Self {
        pages: NZUsize!(8 * 1024),
        buffer: NZUsize!(1 << 20),
        archive_section: NZU64!(8 * 1024),
        cache_section: NZU64!(1024),
        state_blob: NZU64!(1024 * 1024),
        init_keys: NZUsize!(2 << 20),
    };

    /// So small that a short simulation crosses every boundary.
    pub(crate) const SIMULATED: Self = Self {
        pages: NZUsize!(16),
        buffer: NZUsize!(2 * 1024),
        archive_section: NZU64!(8),
        cache_section: NZU64!(8),
        state_blob: NZU64!(32),
        init_keys: NZUsize!(64),
    };

    pub(crate) fn page_cache(&self) -> CacheRef {
        CacheRef::new(PAGE, self.pages)
    }
}

/// An archive by height and digest.
pub(crate) fn archive<C>(
    sizes: &Sizes,
    partition: &str,
    what: &str,
    pages: CacheRef,
    codec_config: C,
) -> prunable::Config<EightCap, C> {
    prunable::Config {
        translator: EightCap,
        metadata_partition: format!("{partition}-{what}-metadata"),
        key_partition: format!("{partition}-{what}-keys"),
        key_page_cache: pages,
        value_partition: format!("{partition}-{what}-values"),
        compression: None,
        codec_config,
        items_per_section: sizes.archive_section,
        key_write_buffer: sizes.buffer,
        value_write_buffer: sizes.buffer,
        replay_buffer: sizes.buffer,
    }
}

/// The authenticated state.
pub(crate) fn state(sizes: &Sizes, partition: &str, pages: CacheRef) -> FixedConfig<EightCap, Strategy> {
    FixedConfig {
        merkle_config: MerkleConfig {
            journal_partition: format!("{partition}-state-merkle-nodes"),
            metadata_partition: format!("{partition}-state-merkle-pins"),
            items_per_blob: sizes.state_blob,
            write_buffer: sizes.buffer,
            replay_buffer: sizes.buffer,
            strategy: STRATEGY,
            page_cache: pages.clone(),
        },
        journal_config: LogConfig {
            partition: format!("{partition}-state-operations"),
            items_per_blob: sizes.state_blob,
            page_cache: pages,
            write_buffer: sizes.buffer,
            replay_buffer: sizes.buffer,
        },
        grafted_metadata_partition: format!("{partition}-state-bitmap"),
        translator: EightCap,
        init_cache: Some(sizes.init_keys),
        init_buffer: sizes.buffer,
        init_concurrency: (),
    }
}
