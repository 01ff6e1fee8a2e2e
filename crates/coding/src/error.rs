/// Why something cannot be coded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An interval that is empty or leaves its total.
    #[error("the interval from {start} of size {size} is empty or leaves a total of 2^{bits} (1 to 24 bits)")]
    Interval {
        /// Its start.
        start: u32,
        /// Its size.
        size: u32,
        /// log₂ of the total.
        bits: u32,
    },
    /// A symbol that the distribution does not have.
    #[error("symbol {symbol} is not among {symbols}")]
    Symbol {
        /// The symbol.
        symbol: usize,
        /// Number of symbols.
        symbols: usize,
    },
    /// More symbols than the total has room for, or none.
    #[error("{symbols} symbols do not fit into a total of 2^{bits} (1 to 24 bits)")]
    Symbols {
        /// Number of symbols.
        symbols: usize,
        /// log₂ of the total.
        bits: u32,
    },
    /// A probability that is negative, NaN or infinite.
    #[error("the probability of symbol {symbol} is {value}, expected a finite number that is not negative")]
    Probability {
        /// The symbol.
        symbol: usize,
        /// What was found.
        value: f64,
    },
    /// Probabilities that sum to 0 or to infinity.
    #[error("the probabilities sum to {0}, expected a positive finite number")]
    Sum(f64),
    /// Cumulative counts that do not start at 0, do not rise strictly, or do not end at a total of 2^1 to 2^24.
    #[error(
        "entry {index} of the cumulative counts is {value}: they start at 0, rise strictly and end at a power of two up to 2^24"
    )]
    Cumulative {
        /// The first wrong entry.
        index: usize,
        /// What was found.
        value: u32,
    },
    /// More was decoded than was encoded, or bytes are missing at the end.
    #[error("the stream is cut off: {missing} bytes or more are missing after {length}")]
    Truncated {
        /// Bytes of the stream.
        length: usize,
        /// Least number of bytes missing.
        missing: usize,
    },
    /// Less was decoded than was encoded, or bytes follow the stream.
    #[error("the stream of {length} bytes was decoded up to byte {used} only")]
    Trailing {
        /// Bytes of the stream.
        length: usize,
        /// Most bytes that the decoded symbols can have taken.
        used: usize,
    },
    /// Lengths that are no prefix code: their shares do not sum to the whole.
    #[error("the code lengths of {symbols} symbols take {used} of {total} shares: no prefix code")]
    HuffmanLengths {
        /// Number of symbols.
        symbols: usize,
        /// `Σ 2^(12 − length)`.
        used: u32,
        /// What it must be.
        total: u32,
    },
    /// Frequencies that do not sum to the whole, or one symbol that has all of it.
    #[error("the frequencies sum to {sum}, expected {total} shared by two symbols or more")]
    Frequencies {
        /// Their sum.
        sum: u32,
        /// What it must be.
        total: u32,
    },
}
