//! The functions that look up hosts.

/// A function that looks up hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Getaddrinfo,
    Gethostbyname,
    Gethostbyname2,
    GethostbynameR,
    Gethostbyname2R,
    Gethostbyaddr,
    GethostbyaddrR,
}

/// Where a function leaves its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It returns its address.
    Returned,
    /// It writes its address where its argument of this number says.
    Argument(u32),
}

impl Function {
    pub const ALL: [Self; 7] = [
        Self::Getaddrinfo,
        Self::Gethostbyname,
        Self::Gethostbyname2,
        Self::GethostbynameR,
        Self::Gethostbyname2R,
        Self::Gethostbyaddr,
        Self::GethostbyaddrR,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Getaddrinfo => "getaddrinfo",
            Self::Gethostbyname => "gethostbyname",
            Self::Gethostbyname2 => "gethostbyname2",
            Self::GethostbynameR => "gethostbyname_r",
            Self::Gethostbyname2R => "gethostbyname2_r",
            Self::Gethostbyaddr => "gethostbyaddr",
            Self::GethostbyaddrR => "gethostbyaddr_r",
        }
    }

    /// The function of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.name() == name)
    }

    pub const fn result(self) -> Place {
        match self {
            Self::Gethostbyname | Self::Gethostbyname2 | Self::Gethostbyaddr => Place::Returned,
            Self::Getaddrinfo => Place::Argument(4),
            Self::GethostbynameR => Place::Argument(5),
            Self::Gethostbyname2R => Place::Argument(6),
            Self::GethostbyaddrR => Place::Argument(7),
        }
    }

    /// Whether it is asked for an address, and answers with a name.
    pub const fn is_reverse(self) -> bool {
        matches!(self, Self::Gethostbyaddr | Self::GethostbyaddrR)
    }

    /// The first of those that are asked for an address, which are the last ones.
    pub const FIRST_REVERSE: Self = Self::Gethostbyaddr;

    /// Its number in a record, and its cookie.
    pub fn number(self) -> u32 {
        Self::ALL.iter().zip(0..).find(|(function, _)| **function == self).map_or(0, |(_, number)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_asked_for_an_address_are_the_last_ones() {
        let is_late = |function: Function| function.number() >= Function::FIRST_REVERSE.number();
        assert!(Function::ALL.into_iter().all(|function| function.is_reverse() == is_late(function)));
    }
}
