//! The function that every received packet passes through, or the copy that the compiler left of it.

use bpfkit_asm::Version;
use bpfkit_loader::{Error as LoaderError, Target, function_names, lacks_function};

use crate::Error;

pub(super) const FUNCTION: &str = "__netif_receive_skb_core";

/// A copy of the function that keeps the first argument in its place; `.cold` and `.part` are pieces of a function.
const COPY: &str = "__netif_receive_skb_core.constprop.";
/// What it is called where only one was made.
pub(super) const USUAL_COPY: &str = "__netif_receive_skb_core.constprop.0";
/// The mainline kernel since which the function takes a pointer to a pointer. Stable kernels before it may do so as well
/// (commit c0bbbdc32feb), so that of those only the types can tell.
pub(super) const INDIRECT: Version = Version::new(5, 8);

/// Whether the first argument of the function of this name is a pointer to a pointer. Types leave out what has lost its name, and those
/// of old kernels leave out all functions: of a copy the version tells, where it is new enough to tell; else it is tried, where there is such
/// a function. That is asked here, unless it is known.
pub(super) fn is_indirect(target: &Target, symbol: &str, is_there: bool) -> Result<bool, Error> {
    let proto = match target.func_proto(FUNCTION) {
        Err(_) if symbol.starts_with(COPY) && target.version() >= INDIRECT => return Ok(true),
        // Where there is no such function its copy is next.
        Err(error @ LoaderError::Btf(_)) if target.is_running() && (is_there || !lacks_function(symbol)) => {
            return target.takes_packets_indirectly(symbol).map_err(|_| error.into());
        }
        found => found?,
    };
    let types = target.btf()?;
    let first = proto.params().next();
    let spelt = first.map_or_else(String::new, |param| types.spell(param.ty));
    Ok(spelt.replace(' ', "").ends_with("**"))
}

/// The copy that the compiler left in place of the function.
pub(super) fn copy(target: &Target) -> Result<Option<String>, Error> {
    if target.is_running() {
        return Ok(copy_among(&function_names(FUNCTION)?));
    }
    Ok((target.version() >= INDIRECT).then(|| USUAL_COPY.to_owned()))
}

/// The copy among these names; none where the function itself is, so that it is something else that is wrong.
pub(super) fn copy_among(names: &[String]) -> Option<String> {
    names
        .iter()
        .find(|name| name.starts_with(COPY))
        .filter(|_| names.first().is_some_and(|name| name != FUNCTION))
        .cloned()
}
