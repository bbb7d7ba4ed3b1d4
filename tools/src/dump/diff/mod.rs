//! Two versions of a tool's programs side by side: for two kernels, two files of types, or two sets of the tool's flags.
//!
//! ```text
//! bpfkit dump tcpconnect --diff 4.18,btf=rhel8.btf --diff 7.2,btf=vmlinux-7.2.btf
//! bpfkit dump tcpconnect --diff none --diff '-P 80'
//! ```

mod align;
mod change;
mod page;
mod print;
mod side;

pub use self::side::Side;
use super::listing::Listing;
use super::{Format, Subject, View};
use crate::Error;
use crate::output::Output;

/// One side with its programs.
struct Made<'a> {
    side: &'a Side,
    subject: &'a Subject<'a>,
    listings: Vec<Listing>,
}

impl Made<'_> {
    /// What was asked for.
    fn name(&self) -> &str {
        if self.side.words.is_empty() { "none" } else { &self.side.words }
    }

    /// The program of this name.
    fn listing(&self, name: &str) -> Option<&Listing> {
        self.listings.iter().find(|listing| listing.name == name)
    }
}

/// Shows what differs between the two sides.
///
/// # Errors
/// What cannot be made for either, or not be printed.
pub fn show(view: &View, [one, two]: &[Side; 2], output: &mut Output) -> Result<(), Error> {
    let is_json = one.tool.tool().options().json || view.format == Format::Json;
    if !matches!(view.format, Format::Text | Format::Json | Format::Html) || view.explain {
        let message = "--diff is shown as text, as JSON or as a page, and explains nothing else";
        return Err(Error::Request(message.to_owned()));
    }
    let targets = (one.target()?, two.target()?);
    let (mut first, mut second) = (one.subject(&targets.0)?, two.subject(&targets.1)?);
    // A program that only one side has may be named, too.
    let known =
        |subject: &Subject<'_>, name: &String| subject.programs.iter().any(|program| program.spec().name == *name);
    if let Some(name) = view.program.iter().find(|name| !known(&first, name) && !known(&second, name)) {
        let names = format!("{}; {}", first.names(), second.names());
        return Err(Error::Request(format!("there is no program `{name}` on either side; there are {names}")));
    }
    for subject in [&mut first, &mut second] {
        subject.programs.retain(|program| view.program.is_empty() || view.program.contains(&program.spec().name));
    }
    let list = |subject: &Subject<'_>| -> Vec<Listing> {
        subject.programs.iter().map(|program| Listing::of(program, &subject.maps)).collect()
    };
    let made = (
        Made { side: one, subject: &first, listings: list(&first) },
        Made { side: two, subject: &second, listings: list(&second) },
    );
    let differences = change::differences(&made.0, &made.1);
    if is_json {
        print::json(&made.0, &made.1, &differences, output)?;
    } else if view.format == Format::Html {
        page::print(&made.0, &made.1, &differences, output)?;
    } else {
        print::text(&made.0, &made.1, &differences, output)?;
    }
    output.flush()
}
