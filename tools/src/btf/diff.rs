//! `bpfkit btf diff`: what is different between two kernels' types, by name.

mod difference;

use std::collections::BTreeMap;
use std::path::PathBuf;

use bpfkit_btf::{Btf, FlatMember, Header, Type};

use self::difference::{Bits, Change, Class, Difference, Part, Place, Value};
use super::signature::Signatures;
use super::source::one;
use crate::cli::Question;
use crate::output::Output;
use crate::{Error, Escaped};

/// Print what is different between two files' types: structures and their members, enumerations, typedefs, functions
///
/// Types are compared by their names, so their numbers do not matter. `+` is new, `-` is gone, `~` is different. Members that moved
/// together are one line.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The old types: a file as `bpfkit btf dump` takes it
    old: PathBuf,
    /// The new types
    new: PathBuf,
    /// Only what has this name
    #[arg(short, long = "type", value_name = "NAME")]
    name: Option<String>,
    /// The types that those of two modules come after
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// Print one JSON object a line: `change` (added, removed, changed), `kind`, `name`, `old` and `new` (the size in bytes, or the
    /// declaration), and `parts`: members with `old` and `new` place, or values
    #[arg(long)]
    json: bool,
}

/// Where a name is in a list.
type Places<'a> = BTreeMap<&'a str, usize>;

/// Where each name is; one by one, as collecting them would bring along another sort.
fn places(names: Vec<&str>) -> Places<'_> {
    let mut places = Places::new();
    for (index, name) in names.into_iter().enumerate() {
        places.insert(name, index);
    }
    places
}

/// A type that has a name, and what is in it.
type Named<'a> = (Class, String, u64, Type<'a>);

impl Question for Args {
    fn answer(&self, output: &mut Output) -> Result<(), Error> {
        let base = self.base.as_deref().map(|base| one(base, None)).transpose()?;
        let (old, new) = (one(&self.old, base.as_ref())?, one(&self.new, base.as_ref())?);
        let (mut old, mut new) = (Side::new(&old, self.name.as_deref()), Side::new(&new, self.name.as_deref()));
        if let Some(name) = &self.name
            && old.named.is_empty()
            && new.named.is_empty()
        {
            return Err(Error::Request(format!("neither file has a type `{}`", Escaped(name.as_bytes()))));
        }
        let mut sums = [[0; 3]; 5];
        let (mut at_old, mut at_new) = (0, 0);
        while at_old < old.named.len() || at_new < new.named.len() {
            let key = |named: &Named<'_>| (named.0, named.1.clone());
            let next = [old.named.get(at_old).map(key), new.named.get(at_new).map(key)].into_iter().flatten().min();
            let Some((class, name)) = next else { break };
            let before = take(&old.named, &mut at_old, class, &name);
            let after = take(&new.named, &mut at_new, class, &name);
            for (before, after) in pairs(&before, &after) {
                let Some(difference) = difference(class, &name, before, after, &mut old, &mut new) else { continue };
                sums[usize::from(class as u8)][usize::from(difference.change as u8)] += 1;
                if self.json { output.json(&difference)? } else { output.bytes(difference.text().as_bytes())? }
            }
        }
        if !self.json {
            output.line(&summary(&sums))?;
        }
        output.flush()
    }
}

/// The types of one of the two.
struct Side<'a> {
    btf: &'a Btf,
    named: Vec<Named<'a>>,
    signatures: Signatures<'a>,
}

impl<'a> Side<'a> {
    fn new(btf: &'a Btf, only: Option<&str>) -> Self {
        let mut signatures = Signatures::new(btf);
        let mut named = Vec::new();
        let asked = only.map(|name| btf.named(name));
        for class in Class::ALL {
            let is_it = |ty: &Type<'a>| class.kinds().contains(&ty.kind());
            let types = match &asked {
                Some(asked) => asked.iter().copied().filter(is_it).collect(),
                None => btf.by_name(class.kinds()),
            };
            named.extend(types.into_iter().map(|ty| (class, ty.name().into_owned(), signatures.contents(&ty), ty)));
        }
        Self { btf, named, signatures }
    }
}

/// The types of one name, with what is in them.
fn take<'a>(named: &[Named<'a>], at: &mut usize, class: Class, name: &str) -> Vec<(u64, Type<'a>)> {
    let same = named[*at..].iter().take_while(|other| other.0 == class && other.1 == name);
    let found: Vec<_> = same.map(|&(_, _, contents, ty)| (contents, ty)).collect();
    *at += found.len();
    found
}

/// Which types of one name belong together: those that are equal are passed over, the others go by their order.
fn pairs<'o, 'n>(old: &[(u64, Type<'o>)], new: &[(u64, Type<'n>)]) -> Vec<(Option<Type<'o>>, Option<Type<'n>>)> {
    let mut left: Vec<_> = new.to_vec();
    let mut before = Vec::new();
    for &(contents, ty) in old {
        match left.iter().position(|(other, _)| *other == contents) {
            Some(index) => drop(left.remove(index)),
            None => before.push(ty),
        }
    }
    let count = before.len().max(left.len());
    (0..count).map(|index| (before.get(index).copied(), left.get(index).map(|(_, ty)| *ty))).collect()
}

fn difference(
    class: Class,
    name: &str,
    before: Option<Type<'_>>,
    after: Option<Type<'_>>,
    old: &mut Side<'_>,
    new: &mut Side<'_>,
) -> Option<Difference> {
    let change = match (before, after) {
        (None, None) => return None,
        (None, Some(_)) => Change::Added,
        (Some(_), None) => Change::Removed,
        (Some(_), Some(_)) => Change::Changed,
    };
    let value = |ty: Option<Type<'_>>, btf: &Btf| {
        ty.map(|ty| match class {
            Class::Struct | Class::Union | Class::Enum => Value::Size(ty.size().unwrap_or_default()),
            Class::Typedef => Value::Text(Header::declaration(btf, ty.target().unwrap_or_default(), "")),
            Class::Func => Value::Text(Header::declaration(btf, ty.target().unwrap_or_default(), name)),
        })
    };
    let (mut was, mut is) = (value(before, old.btf), value(after, new.btf));
    let mut parts = Vec::new();
    if let (Some(before), Some(after)) = (before, after) {
        match class {
            Class::Struct | Class::Union => parts = members(before, after, old, new),
            Class::Enum => parts = values(before, after),
            Class::Typedef | Class::Func => {}
        }
        if was == is && parts.is_empty() {
            // What is different is within types without names, or too deep to be looked into.
            let text = |btf, ty: Type<'_>| Some(Value::Text(Header::annotated(btf, ty.id)));
            if class == Class::Typedef {
                (was, is) = (text(old.btf, before), text(new.btf, after));
            }
        }
    }
    Some(Difference { change, kind: class, name: name.to_owned(), old: was, new: is, parts })
}

/// What is different between the members of two structures, in the order of the new one.
fn members(before: Type<'_>, after: Type<'_>, old: &mut Side<'_>, new: &mut Side<'_>) -> Vec<Part> {
    let place = |btf: &Btf, member: &FlatMember| Place::Member {
        offset: member.bit_offset / 8,
        bits: member.bits.map(|size| Bits { offset: member.bit_offset, size }),
        size: btf.ty(member.ty).and_then(Type::size).unwrap_or_default(),
        type_name: Header::declaration(btf, member.ty, "").split('{').next().unwrap_or_default().trim_end().to_owned(),
    };
    let (was, is) = (before.flat_members(), after.flat_members());
    let known = places(was.iter().map(|member| &*member.path).collect());
    let kept = places(is.iter().map(|member| &*member.path).collect());
    let mut parts = Vec::new();
    for member in was.iter().filter(|member| !kept.contains_key(&*member.path)) {
        let (name, old) = (member.path.clone(), Some(place(old.btf, member)));
        parts.push(Part { change: Change::Removed, name, old, new: None });
    }
    for member in &is {
        let here = place(new.btf, member);
        let name = member.path.clone();
        let Some(other) = known.get(&*member.path).and_then(|&index| was.get(index)) else {
            parts.push(Part { change: Change::Added, name, old: None, new: Some(here) });
            continue;
        };
        let there = place(old.btf, other);
        // Two types that are spelt alike are alike, or without a name; of those each member is looked at by itself.
        let is_equal =
            there == here || same_place(&there, &here) && old.signatures.of(other.ty) == new.signatures.of(member.ty);
        if !is_equal {
            parts.push(Part { change: Change::Changed, name, old: Some(there), new: Some(here) });
        }
    }
    parts
}

/// Whether only the types of two members may be different.
fn same_place(one: &Place, other: &Place) -> bool {
    match (one, other) {
        (Place::Member { offset, bits, size, .. }, Place::Member { offset: at, bits: others, size: bytes, .. }) => {
            (offset, bits, size) == (at, others, bytes)
        }
        _ => false,
    }
}

/// What is different between the values of two enumerations.
fn values(before: Type<'_>, after: Type<'_>) -> Vec<Part> {
    let list = |ty: Type<'_>| ty.values().map(|(name, value)| (name.into_owned(), value)).collect::<Vec<_>>();
    let (was, is) = (list(before), list(after));
    let known = places(was.iter().map(|(name, _)| &**name).collect());
    let kept = places(is.iter().map(|(name, _)| &**name).collect());
    let gone = was.iter().filter(|(name, _)| !kept.contains_key(&**name)).map(|(name, value)| Part {
        change: Change::Removed,
        name: name.clone(),
        old: Some(Place::Value(*value)),
        new: None,
    });
    let old = |name: &str| known.get(name).and_then(|&index| was.get(index)).map(|(_, value)| value);
    let rest = is.iter().filter_map(|(name, value)| match old(name) {
        Some(old) if old == value => None,
        old => Some(Part {
            change: if old.is_some() { Change::Changed } else { Change::Added },
            name: name.clone(),
            old: old.map(|&old| Place::Value(old)),
            new: Some(Place::Value(*value)),
        }),
    });
    gone.chain(rest).collect()
}

fn summary(sums: &[[usize; 3]; 5]) -> String {
    let parts = Class::ALL.iter().zip(sums).filter(|(_, sums)| sums.iter().any(|&sum| sum > 0));
    let texts: Vec<String> = parts
        .map(|(class, [new, gone, other])| format!("{}: {new} new, {gone} gone, {other} different", class.word()))
        .collect();
    if texts.is_empty() { "nothing is different".to_owned() } else { texts.join("; ") }
}
