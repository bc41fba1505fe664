// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title Takes the batches and the delayed messages of one Nitro-style rollup, on an embedded L1.
/// @notice A stand-in where the real contracts cannot be shipped, and never for money: ether that is deposited stays here for
/// good, and nobody proves or checks what the rollup makes of its batches. It answers at one address what SequencerInbox, Bridge
/// and Inbox of Nitro (npm: arbitrum/nitro-contracts 3.2) answer at three, as far as a poster calls them and a reader of events
/// needs them: same selectors, events, errors, hashes and accumulators. `judge.sh` calls both alike and compares.
///
/// Left out: forced inclusion, so a poster can censor; the delay buffer and its proofs; batches in calldata from a contract or
/// with a data availability certificate; gas refunders; retryable tickets and unsigned transactions; withdrawals and the
/// rollup's assertions; an owner, a pause, an allow list, upgrades; L1 forks that change the chain id.
contract NitroInbox {
    /// Between what the clocks of a batch's messages must be.
    struct TimeBounds {
        uint64 minTimestamp;
        uint64 maxTimestamp;
        uint64 minBlockNumber;
        uint64 maxBlockNumber;
    }

    /// How far these may be from the clock of the L1 block that includes the batch.
    struct Variation {
        uint64 delayBlocks;
        uint64 futureBlocks;
        uint64 delaySeconds;
        uint64 futureSeconds;
    }

    /// Where a reader finds a batch. Nobody forces a batch without data in here.
    enum BatchDataLocation {
        TxInput,
        SeparateBatchEvent,
        NoData,
        Blob
    }

    event SequencerBatchDelivered(
        uint256 indexed batchSequenceNumber,
        bytes32 indexed beforeAcc,
        bytes32 indexed afterAcc,
        bytes32 delayedAcc,
        uint256 afterDelayedMessagesRead,
        TimeBounds timeBounds,
        BatchDataLocation dataLocation
    );
    event SequencerBatchData(uint256 indexed batchSequenceNumber, bytes data);
    event MessageDelivered(
        uint256 indexed messageIndex,
        bytes32 indexed beforeInboxAcc,
        address inbox,
        uint8 kind,
        address sender,
        bytes32 messageDataHash,
        uint256 baseFeeL1,
        uint64 timestamp
    );
    event InboxMessageDelivered(uint256 indexed messageNum, bytes data);
    event InboxMessageDeliveredFromOrigin(uint256 indexed messageNum);

    error NotCodelessOrigin();
    error NotBatchPoster();
    error DataTooLarge(uint256 dataLength, uint256 maxDataLength);
    error InvalidHeaderFlag(bytes1);
    error MissingDataHashes();
    error DelayedBackwards();
    error DelayedTooFar();
    error BadSequencerMessageNumber(uint256 stored, uint256 received);
    error BadSequencerNumber(uint256 stored, uint256 received);
    /// Not of the real contracts: they would call the refunder.
    error GasRefunderNotSupported(address refunder);

    /// Bytes of a batch with its header, or of a delayed message: what the real ones are deployed with on an L1.
    uint256 public constant maxDataSize = 117_964;
    uint256 public constant HEADER_LENGTH = 40;
    bool public constant isDelayBufferable = false;

    uint8 private constant L2_MESSAGE = 3;
    uint8 private constant INITIALIZE = 11;
    uint8 private constant ETH_DEPOSIT = 12;
    uint8 private constant BATCH_REPORT = 13;

    uint8 private constant INITIALIZE_VERSION = 1;
    bytes1 private constant BROTLI_FLAG = 0x00;
    bytes1 private constant ZERO_HEAVY_FLAG = 0x20;
    bytes1 private constant BLOBS_FLAG = 0x50;
    uint256 private constant GAS_PER_BLOB = 131_072;
    uint160 private constant ALIAS_OFFSET = uint160(0x1111000000000000000000000000000000001111);

    mapping(address => bool) public isBatchPoster;
    bytes32[] public sequencerInboxAccs;
    bytes32[] public delayedInboxAccs;
    uint256 public totalDelayedMessagesRead;
    uint256 public sequencerReportedSubMessageCount;

    uint64 private immutable DELAY_BLOCKS;
    uint64 private immutable FUTURE_BLOCKS;
    uint64 private immutable DELAY_SECONDS;
    uint64 private immutable FUTURE_SECONDS;

    /// Delivers the message that initialises the chain, and the first batch, which is empty but for that message: as the real
    /// ones do when a rollup is created.
    /// @param chainId The rollup's.
    /// @param chainConfig Its configuration, JSON.
    /// @param dataCostEstimate What it first takes for L1's price of data, wei; L1's base fee if it is zero.
    /// @param posters Who may post, for good.
    constructor(
        uint256 chainId,
        string memory chainConfig,
        uint256 dataCostEstimate,
        Variation memory variation,
        address[] memory posters
    ) {
        require(bytes(chainConfig).length > 0, "EMPTY_CHAIN_CONFIG");
        DELAY_BLOCKS = variation.delayBlocks;
        FUTURE_BLOCKS = variation.futureBlocks;
        DELAY_SECONDS = variation.delaySeconds;
        FUTURE_SECONDS = variation.futureSeconds;
        for (uint256 i = 0; i < posters.length; ++i) isBatchPoster[posters[i]] = true;

        uint256 cost = dataCostEstimate == 0 ? block.basefee : dataCostEstimate;
        _deliver(INITIALIZE, address(0), abi.encodePacked(chainId, INITIALIZE_VERSION, cost, chainConfig));
        _append(0, "", 1, 0, 1, BatchDataLocation.SeparateBatchEvent);
        emit SequencerBatchData(0, "");
    }

    // ---- SequencerInbox ----

    /// Appends a batch. The number of batches must be `sequenceNumber`, the number of messages in them `prevMessageCount`; the
    /// greatest number, or zero messages, mean any.
    function addSequencerL2BatchFromOrigin(
        uint256 sequenceNumber,
        bytes calldata data,
        uint256 afterDelayedMessagesRead,
        address gasRefunder,
        uint256 prevMessageCount,
        uint256 newMessageCount
    ) external {
        // Readers take the batch from the transaction's input, so that must be this call's.
        if (!_isCodelessOrigin()) revert NotCodelessOrigin();
        if (!isBatchPoster[msg.sender]) revert NotBatchPoster();
        if (gasRefunder != address(0)) revert GasRefunderNotSupported(gasRefunder);
        if (data.length + HEADER_LENGTH > maxDataSize) revert DataTooLarge(data.length + HEADER_LENGTH, maxDataSize);
        if (data.length > 0 && data[0] != BROTLI_FLAG && data[0] != ZERO_HEAVY_FLAG) revert InvalidHeaderFlag(data[0]);
        _append(
            sequenceNumber, data, afterDelayedMessagesRead, prevMessageCount, newMessageCount, BatchDataLocation.TxInput
        );
    }

    /// The same with the transaction's blobs. A contract may call this; nobody is paid back then.
    function addSequencerL2BatchFromBlobs(
        uint256 sequenceNumber,
        uint256 afterDelayedMessagesRead,
        address gasRefunder,
        uint256 prevMessageCount,
        uint256 newMessageCount
    ) external {
        if (!isBatchPoster[msg.sender]) revert NotBatchPoster();
        if (gasRefunder != address(0)) revert GasRefunderNotSupported(gasRefunder);
        bytes memory content = abi.encodePacked(BLOBS_FLAG);
        uint256 count = 0;
        for (; blobhash(count) != 0; ++count) content = bytes.concat(content, blobhash(count));
        if (count == 0) revert MissingDataHashes();
        (uint256 number, bytes32 dataHash) = _append(
            sequenceNumber, content, afterDelayedMessagesRead, prevMessageCount, newMessageCount, BatchDataLocation.Blob
        );
        uint256 cost = block.blobbasefee * GAS_PER_BLOB * count;
        if (_isCodelessOrigin()) _report(dataHash, number, block.basefee > 0 ? cost / block.basefee : 0);
    }

    /// Itself: it is the Bridge as well.
    function bridge() external view returns (address) {
        return address(this);
    }

    /// Blocks before, blocks after, seconds before, seconds after.
    function maxTimeVariation() external view returns (uint256, uint256, uint256, uint256) {
        return (DELAY_BLOCKS, FUTURE_BLOCKS, DELAY_SECONDS, FUTURE_SECONDS);
    }

    function batchCount() external view returns (uint256) {
        return sequencerInboxAccs.length;
    }

    function inboxAccs(uint256 index) external view returns (bytes32) {
        // Reverts without a reason, as the getter does.
        require(index < sequencerInboxAccs.length);
        return sequencerInboxAccs[index];
    }

    // ---- Bridge ----

    function sequencerMessageCount() external view returns (uint256) {
        return sequencerInboxAccs.length;
    }

    function delayedMessageCount() external view returns (uint256) {
        return delayedInboxAccs.length;
    }

    // ---- Inbox ----

    /// Sends the rollup a message for anybody, such as a signed transaction after its kind, 4.
    function sendL2Message(bytes calldata messageData) external returns (uint256) {
        if (messageData.length > maxDataSize) revert DataTooLarge(messageData.length, maxDataSize);
        return _deliver(L2_MESSAGE, _aliased(msg.sender), messageData);
    }

    /// The same, where readers take the message from the transaction's input.
    function sendL2MessageFromOrigin(bytes calldata messageData) external returns (uint256 number) {
        if (!_isCodelessOrigin()) revert NotCodelessOrigin();
        if (messageData.length > maxDataSize) revert DataTooLarge(messageData.length, maxDataSize);
        number = _accumulate(L2_MESSAGE, _aliased(msg.sender), keccak256(messageData));
        emit InboxMessageDeliveredFromOrigin(number);
    }

    /// Deposits ether to the caller's account on the rollup; a contract's is at another address there.
    function depositEth() external payable returns (uint256) {
        address account = _isCodelessOrigin() ? msg.sender : _aliased(msg.sender);
        return _deliver(ETH_DEPOSIT, _aliased(msg.sender), abi.encodePacked(account, msg.value));
    }

    // ---- Accounting ----

    /// `content` is what is hashed behind the header: the batch, or the flag and the hashes of its blobs.
    function _append(
        uint256 sequenceNumber,
        bytes memory content,
        uint256 delayedRead,
        uint256 messagesBefore,
        uint256 messagesAfter,
        BatchDataLocation location
    ) private returns (uint256 number, bytes32 dataHash) {
        if (delayedRead < totalDelayedMessagesRead) revert DelayedBackwards();
        if (delayedRead > delayedInboxAccs.length) revert DelayedTooFar();
        uint256 known = sequencerReportedSubMessageCount;
        if (known != messagesBefore && known != 0 && messagesBefore != 0) {
            revert BadSequencerMessageNumber(known, messagesBefore);
        }
        TimeBounds memory bounds = _bounds();
        dataHash = keccak256(bytes.concat(_header(bounds, delayedRead), content));

        number = sequencerInboxAccs.length;
        if (sequenceNumber != number && sequenceNumber != type(uint256).max) {
            revert BadSequencerNumber(number, sequenceNumber);
        }
        bytes32 before = _last(sequencerInboxAccs, number);
        bytes32 delayed = _last(delayedInboxAccs, delayedRead);
        bytes32 accumulator = keccak256(abi.encodePacked(before, dataHash, delayed));
        sequencerInboxAccs.push(accumulator);
        sequencerReportedSubMessageCount = messagesAfter;
        totalDelayedMessagesRead = delayedRead;
        // With blobs the report comes after the event, and the event has the number that was asked for, even if that is any.
        bool inBlobs = location == BatchDataLocation.Blob;
        if (!inBlobs && content.length > 0) _report(dataHash, number, 0);
        uint256 named = inBlobs ? sequenceNumber : number;
        emit SequencerBatchDelivered(named, before, accumulator, delayed, delayedRead, bounds, location);
    }

    /// What the poster spent, for the rollup to pay back: a message for a later batch.
    function _report(bytes32 dataHash, uint256 number, uint256 extraGas) private {
        bytes memory report =
            abi.encodePacked(block.timestamp, msg.sender, dataHash, number, block.basefee, uint64(extraGas));
        _deliver(BATCH_REPORT, msg.sender, report);
    }

    function _deliver(uint8 kind, address sender, bytes memory content) private returns (uint256 index) {
        index = _accumulate(kind, sender, keccak256(content));
        emit InboxMessageDelivered(index, content);
    }

    function _accumulate(uint8 kind, address sender, bytes32 contentHash) private returns (uint256 index) {
        index = delayedInboxAccs.length;
        bytes32 before = _last(delayedInboxAccs, index);
        uint64 timestamp = uint64(block.timestamp);
        bytes32 message = keccak256(
            abi.encodePacked(kind, sender, uint64(block.number), timestamp, index, block.basefee, contentHash)
        );
        delayedInboxAccs.push(keccak256(abi.encodePacked(before, message)));
        emit MessageDelivered(index, before, address(this), kind, sender, contentHash, block.basefee, timestamp);
    }

    /// The accumulator after `count` of them.
    function _last(bytes32[] storage accumulators, uint256 count) private view returns (bytes32) {
        return count == 0 ? bytes32(0) : accumulators[count - 1];
    }

    function _bounds() private view returns (TimeBounds memory) {
        uint64 timestamp = uint64(block.timestamp);
        uint64 number = uint64(block.number);
        return TimeBounds({
            minTimestamp: timestamp > DELAY_SECONDS ? timestamp - DELAY_SECONDS : 0,
            maxTimestamp: timestamp + FUTURE_SECONDS,
            minBlockNumber: number > DELAY_BLOCKS ? number - DELAY_BLOCKS : 0,
            maxBlockNumber: number + FUTURE_BLOCKS
        });
    }

    function _header(TimeBounds memory bounds, uint256 delayedRead) private pure returns (bytes memory) {
        return abi.encodePacked(
            bounds.minTimestamp, bounds.maxTimestamp, bounds.minBlockNumber, bounds.maxBlockNumber, uint64(delayedRead)
        );
    }

    /// Whether an account without code (EIP-7702 gives some) called this itself: its transaction's input is then this call's.
    function _isCodelessOrigin() private view returns (bool) {
        return msg.sender == tx.origin && msg.sender.code.length == 0;
    }

    /// Where the rollup sees this L1 account, so that it passes for nobody who has the same address there.
    function _aliased(address account) private pure returns (address) {
        unchecked {
            return address(uint160(account) + ALIAS_OFFSET);
        }
    }
}
