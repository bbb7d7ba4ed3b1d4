//! The registers: `r0` to `r10`, and `w0` to `w10` for their lower halves.

use std::fmt;

macro_rules! registers {
    ($(#[$doc:meta])* $name:ident $letter:literal: $($variant:ident = $n:literal)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $(#[doc = concat!("`", $letter, stringify!($n), "`")] $variant = $n,)*
        }

        impl $name {
            /// Every register, in order.
            pub const ALL: [Self; 11] = [$(Self::$variant),*];

            /// The register's number, 0 to 10.
            pub const fn n(self) -> u8 {
                self as u8
            }

            /// The register of this number, if there is one.
            pub const fn new(n: u8) -> Option<Self> {
                match n {
                    $($n => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The register of this name, such as `r1`.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $(concat!($letter, stringify!($n)) => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}"), self.n())
            }
        }
    };
}

registers! {
    /// A 64-bit register. `r1` to `r5` carry arguments, `r0` the result, `r6` to `r9` survive calls, `r10` is the frame.
    Reg "r": R0=0 R1=1 R2=2 R3=3 R4=4 R5=5 R6=6 R7=7 R8=8 R9=9 R10=10
}
registers! {
    /// The lower 32 bits of a register; writing one zeroes the upper half.
    WReg "w": W0=0 W1=1 W2=2 W3=3 W4=4 W5=5 W6=6 W7=7 W8=8 W9=9 W10=10
}

impl From<WReg> for Reg {
    fn from(half: WReg) -> Self {
        Self::ALL[usize::from(half.n())]
    }
}

impl From<Reg> for WReg {
    fn from(whole: Reg) -> Self {
        Self::ALL[usize::from(whole.n())]
    }
}
