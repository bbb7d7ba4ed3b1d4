//! How much work the verifier had, as it says at the end of its log.

/// What the verifier counted. Each kernel tells some of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct End {
    /// Instructions that it walked over, on all paths.
    pub processed: Option<u64>,
    /// How many it would have walked over at most.
    pub limit: Option<u64>,
    /// The most states that it kept at one instruction.
    pub max_states_per_insn: Option<u64>,
    /// States that it made.
    pub total_states: Option<u64>,
    /// The most states that it kept at one time.
    pub peak_states: Option<u64>,
    /// The longest chain of states through which it marked a register as read (before Linux 6.18).
    pub mark_read: Option<u64>,
    /// Microseconds that it took.
    pub time_us: Option<u64>,
    /// Bytes of stack that each function takes, the first one's first.
    pub stack: Vec<u64>,
}

impl End {
    /// Takes in a line, if it is of this kind: `processed 24 insns (limit 1000000) max_states_per_insn 0 total_states 2`.
    pub(super) fn read(&mut self, line: &str) -> bool {
        let mut words = line.split([' ', '(', ')', ',']).filter(|word| !word.is_empty());
        match (words.next(), words.next()) {
            (Some("processed"), Some(count)) => self.processed = count.parse().ok(),
            (Some("verification"), Some("time")) => {
                self.time_us = words.next().and_then(|time| time.parse().ok());
                return true;
            }
            (Some("stack"), Some("depth")) => {
                self.stack = words.next().map_or(Vec::new(), depths);
                return true;
            }
            // Linux 7.2 and 7.3 count those of each function, too.
            (Some("insns"), Some("processed")) | (Some("subprog"), Some(_)) => return true,
            _ => return false,
        }
        let mut name = "";
        for word in words {
            match word.parse() {
                // Linux before 5.2 has it all in a line: `processed 24 insns (limit 131072), stack depth 8+0`.
                _ if name == "depth" => self.stack = depths(word),
                Ok(count) => self.set(name, count),
                Err(_) => name = word,
            }
        }
        true
    }

    fn set(&mut self, name: &str, count: u64) {
        let place = match name {
            "limit" => &mut self.limit,
            "max_states_per_insn" => &mut self.max_states_per_insn,
            "total_states" => &mut self.total_states,
            "peak_states" => &mut self.peak_states,
            "mark_read" => &mut self.mark_read,
            _ => return,
        };
        *place = Some(count);
    }
}

/// `8+0+16`
fn depths(text: &str) -> Vec<u64> {
    text.split('+').map_while(|depth| depth.parse().ok()).collect()
}
