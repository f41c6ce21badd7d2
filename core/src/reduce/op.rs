//! The operations by name, and the error for those that a dtype does not have.

use core::fmt;

use crate::dtype::Dtype;

/// How the elements of several sources become one.
///
/// Codes start at 1, so that a word that was never written names no operation.
///
/// ```
/// use sapwood_core::reduce::Op;
///
/// assert_eq!(Op::from_code(Op::Avg.code()), Some(Op::Avg));
/// assert_eq!(Op::from_code(0), None);
/// assert_eq!(Op::Xor.to_string(), "xor");
/// ```
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// Addition; integers wrap.
    Sum = 1,
    /// Multiplication; integers wrap.
    Prod,
    /// The least. A NaN in any source makes the result NaN; -0 is less than +0.
    Min,
    /// The greatest. A NaN in any source makes the result NaN; +0 is greater than -0.
    Max,
    /// The sum divided by the number of sources; floats only.
    Avg,
    /// Bitwise and; integers only.
    And,
    /// Bitwise or; integers only.
    Or,
    /// Bitwise exclusive or; integers only.
    Xor,
}

impl Op {
    /// Every operation, in the order of the codes.
    pub const ALL: [Op; 8] = [Op::Sum, Op::Prod, Op::Min, Op::Max, Op::Avg, Op::And, Op::Or, Op::Xor];

    /// The name in lower case, such as `"sum"`.
    pub const fn name(self) -> &'static str {
        match self {
            Op::Sum => "sum",
            Op::Prod => "prod",
            Op::Min => "min",
            Op::Max => "max",
            Op::Avg => "avg",
            Op::And => "and",
            Op::Or => "or",
            Op::Xor => "xor",
        }
    }

    /// The number that stands for this operation between processes and hosts; it never changes.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The operation with this code, or nothing if the code names none.
    pub fn from_code(code: u8) -> Option<Op> {
        let op = Op::ALL.get(usize::from(code).checked_sub(1)?)?;
        Some(*op)
    }

    /// The place in a table of kernels.
    pub(super) const fn index(self) -> usize {
        self as usize - 1
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A dtype does not have this operation: integers have no `avg`, floats no `and`, `or` and `xor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsupported {
    /// The element type that was asked for.
    pub dtype: Dtype,
    /// The operation that this element type does not have.
    pub op: Op,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.op {
            Op::Avg => "an average of integers would have to be rounded, so sum and divide instead",
            _ => "bit operations are for integers",
        };
        write!(f, "the operation {} is refused for {}: {why}", self.op, self.dtype)
    }
}

impl core::error::Error for Unsupported {}
