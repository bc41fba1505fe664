//! An embedded EVM node.
