//! From a path such as `sock.__sk_common.skc_dport` to an offset.

use std::borrow::Cow;

use crate::types::{Kind, Member, Type, TypeId};
use crate::{Btf, Error};

/// Where a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The alternative of the path that was found.
    pub path: String,
    /// Bytes from the start of the structure; of a bit field, to the unit that holds it.
    pub offset: u32,
    /// Bytes; of a bit field, those of its unit.
    pub size: u32,
    /// Which bits, where it is a bit field.
    pub bits: Option<BitField>,
    /// What it is.
    pub ty: TypeId,
    /// What it is, as C has it.
    pub type_name: String,
}

/// The bits of a bit field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitField {
    /// Bits from the start of the structure.
    pub offset: u32,
    /// How many.
    pub size: u32,
}

/// How deeply anonymous structures may be nested.
const DEPTH: usize = 32;
/// How many members one step of a path may look at: anonymous parts that hold each other twice would double it at every level.
const MEMBERS: usize = 1 << 17;

/// One step of a path.
enum Step<'a> {
    Member(&'a str),
    Index(u32),
}

impl Btf {
    /// Finds a member by its path: names separated by `.`, `[3]` for elements of arrays, alternatives separated by `|`.
    ///
    /// Anonymous structures and unions are looked through; pointers are not followed.
    ///
    /// # Errors
    /// Which part of the path has no match, and what is there instead.
    pub fn field(&self, path: &str) -> Result<Field, Error> {
        let mut first = None;
        for alternative in path.split('|').map(str::trim) {
            match self.one_field(alternative, &mut Vec::new()) {
                Ok(field) => return Ok(field),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| Error::NoType(path.to_owned())))
    }

    /// The type that a path begins with, and each member that it goes through: of which structure, and which of its members.
    pub(crate) fn walk(&self, path: &str, steps: &mut Vec<(TypeId, usize)>) -> Result<TypeId, Error> {
        self.one_field(path, steps)?;
        let root = path.split(['.', '[']).next().unwrap_or_default();
        self.root(root).map(|ty| ty.id).ok_or_else(|| Error::NoType(root.to_owned()))
    }

    /// The type at the start of a path.
    fn root(&self, name: &str) -> Option<Type<'_>> {
        self.find(name, &[Kind::STRUCT, Kind::UNION]).or_else(|| self.find(name, &[Kind::TYPEDEF]))
    }

    fn one_field(&self, path: &str, through: &mut Vec<(TypeId, usize)>) -> Result<Field, Error> {
        let wrong = |why: String| Error::Path { path: path.to_owned(), why };
        let (root, rest) = path.split_at(path.find(['.', '[']).unwrap_or(path.len()));
        let missing = || {
            let why = self.broken().map(|error| format!(" among those that can be read: {error}"));
            wrong(format!("there is no struct, union or typedef `{root}`{}", why.unwrap_or_default()))
        };
        let mut ty = self.root(root).ok_or_else(missing)?;
        let mut bits = 0_u32;
        let mut bit_size = None;
        for step in steps(rest).ok_or_else(|| wrong("it is not made of `.member` and `[index]`".to_owned()))? {
            let holder = ty.resolved()?;
            let (id, more, size) = match step {
                Step::Member(name) => {
                    let member = self.member(holder, name, through)?;
                    let member = member.ok_or_else(|| wrong(self.no_member(&holder, name)))?;
                    (member.ty, member.bit_offset, member.bits)
                }
                Step::Index(index) => {
                    let len = holder.array_len().ok_or_else(|| wrong(format!("{} is no array", self.spell(ty.id))))?;
                    // The last member may be an array without a length.
                    if index >= len && len != 0 {
                        return Err(wrong(format!("{} has {len} elements", self.spell(ty.id))));
                    }
                    let element = self.ty(holder.target().unwrap_or_default())?;
                    let offset = element.size()?.checked_mul(8).and_then(|size| size.checked_mul(index));
                    (element.id, offset.ok_or(Error::TooDeep(element.id.0))?, None)
                }
            };
            bits = bits.checked_add(more).ok_or(Error::TooDeep(id.0))?;
            bit_size = size;
            ty = self.ty(id)?;
        }
        let size = ty.size()?;
        let type_name = self.spell(ty.id);
        let Some((within, count)) = old_bit_field(ty.resolved()?).or(bit_size.map(|bits| (0, bits))) else {
            return Ok(Field { path: path.to_owned(), offset: bits / 8, size, bits: None, ty: ty.id, type_name });
        };
        let start = bits.checked_add(within).ok_or(Error::TooDeep(ty.id.0))?;
        let (offset, size) = unit(start, count, size.max(1));
        let bits = Some(BitField { offset: start, size: count });
        Ok(Field { path: path.to_owned(), offset, size, bits, ty: ty.id, type_name })
    }

    /// A member of a structure or of one of its anonymous parts, placed within the structure.
    fn member<'a>(
        &'a self,
        holder: Type<'a>,
        name: &str,
        through: &mut Vec<(TypeId, usize)>,
    ) -> Result<Option<Member<'a>>, Error> {
        self.member_within(holder, name, 0, &mut { MEMBERS }, through)
    }

    fn member_within<'a>(
        &'a self,
        holder: Type<'a>,
        name: &str,
        depth: usize,
        left: &mut usize,
        through: &mut Vec<(TypeId, usize)>,
    ) -> Result<Option<Member<'a>>, Error> {
        let too_deep = || Error::TooDeep(holder.id.0);
        let count = holder.member_count();
        *left = left.checked_sub(count + 1).filter(|_| depth < DEPTH).ok_or_else(too_deep)?;
        // Names are compared where they are: a task_struct has hundreds of them.
        let named = |index: &usize| holder.btf.string_is(holder.element(*index, 3)[0], name.as_bytes());
        if let Some(index) = (0..count).find(named) {
            through.push((holder.id, index));
            return Ok(Some(holder.member(index)));
        }
        for index in 0..count {
            let [name_off, id, _] = holder.element(index, 3);
            // Where no name is given the offset is 0, and that is there even if all strings are gone.
            let known = (name_off == 0).then_some(&b""[..]).or_else(|| holder.btf.known_string(name_off));
            if !known.ok_or(Error::NoString { id: holder.id.0, offset: name_off })?.is_empty() {
                continue;
            }
            let inner = self.ty(TypeId(id))?.resolved()?;
            if let Some(mut member) = self.member_within(inner, name, depth + 1, left, through)? {
                through.push((holder.id, index));
                let offset = holder.member(index).bit_offset.checked_add(member.bit_offset);
                member.bit_offset = offset.ok_or_else(too_deep)?;
                return Ok(Some(member));
            }
        }
        Ok(None)
    }

    /// The names of a structure's members, those of its anonymous parts among them.
    fn member_names<'a>(&'a self, holder: Type<'a>, depth: usize, left: &mut usize, names: &mut Vec<Cow<'a, str>>) {
        for member in holder.members() {
            let Some(fewer) = left.checked_sub(1).filter(|_| depth < DEPTH) else { return };
            *left = fewer;
            match self.ty(member.ty).and_then(Type::resolved) {
                Ok(part) if member.name.is_empty() => self.member_names(part, depth + 1, left, names),
                _ => names.push(member.name),
            }
        }
    }

    /// Says that there is no such member, and which there are.
    fn no_member(&self, holder: &Type<'_>, name: &str) -> String {
        let spelt = self.spell(holder.id);
        if holder.kind() == Kind::PTR {
            return format!("`{name}` would be behind a pointer, {spelt}, which is to be read first");
        }
        let mut names = Vec::new();
        self.member_names(*holder, 0, &mut { MEMBERS }, &mut names);
        if names.is_empty() {
            return format!("{spelt} has no members");
        }
        let near = nearest(name, &names);
        match near {
            Some(near) => format!("{spelt} has no member `{name}`, but `{near}`"),
            None => format!("{spelt} has no member `{name}`"),
        }
    }
}

impl Btf {
    /// A name like this one that some type of these kinds has.
    pub fn nearest(&self, name: &str, kinds: &[Kind]) -> Option<String> {
        let is_one = |ty: &Type<'_>| kinds.contains(&ty.kind()) && ty.name_off != 0;
        let all = (1..self.end()).filter_map(|id| self.ty(TypeId(id)).ok());
        // Names of a quite different length are not meant.
        let most = name.len() + name.len().div_ceil(2);
        let names: Vec<_> = all.filter(is_one).map(|ty| ty.name()).filter(|known| known.len() <= most).collect();
        nearest(name, &names).map(str::to_owned)
    }
}

/// The bytes to read for some bits: where they begin, and how many.
fn unit(start: u32, count: u32, size: u32) -> (u32, u32) {
    let bits = size.saturating_mul(8);
    if start % bits + count <= bits {
        return (start / bits * size, size);
    }
    // A packed structure may have bits of two units side by side.
    (start / 8, (start % 8 + count).div_ceil(8).next_power_of_two())
}

/// The longest name that may be meant, or that another may be meant by.
const LONG: usize = 128;

/// The name that was probably meant: one that differs in a letter of each four or so, else one that is most of the other.
fn nearest<'a>(name: &str, names: &'a [Cow<'_, str>]) -> Option<&'a str> {
    // Comparing takes a time that grows with the length of both.
    let known = || names.iter().map(|known| &**known).filter(|known| (1..=LONG).contains(&known.len()));
    if name.len() > LONG {
        return None;
    }
    let close = known().map(|known| (distance(name, known), known)).min_by_key(|&(distance, _)| distance);
    let close = close.filter(|&(distance, _)| distance <= (name.len() + 1) / 4).map(|(_, known)| known);
    // Of one or two letters everything has some in it, and half a name is another name.
    let is_most = |part: &str, whole: &str| part.len() > 2 && part.len() * 2 > whole.len() && whole.contains(part);
    // `num` of `skc_num`: a prefix that all members of a structure have is easily forgotten.
    let is_prefixed = |known: &str| {
        known.len() <= name.len() + 4 && known.strip_suffix(name).is_some_and(|prefix| prefix.ends_with('_'))
    };
    let is_part = |known: &str| is_most(name, known) || is_most(known, name) || name.len() > 2 && is_prefixed(known);
    let parts = || known().filter(|known| is_part(known));
    close.or_else(|| parts().min_by_key(|known| known.len().abs_diff(name.len())))
}

/// How many letters are to be added, dropped or changed to make one word of the other; two that changed places count once.
fn distance(from: &str, to: &str) -> usize {
    let (from, to) = (from.as_bytes(), to.as_bytes());
    let mut rows = [vec![0; to.len() + 1], (0..=to.len()).collect(), vec![0; to.len() + 1]];
    for (i, &a) in from.iter().enumerate() {
        let [older, old, new] = &mut rows;
        new[0] = i + 1;
        for (j, &b) in to.iter().enumerate() {
            new[j + 1] = (old[j] + usize::from(a != b)).min(old[j + 1] + 1).min(new[j] + 1);
            if i > 0 && j > 0 && a == to[j - 1] && b == from[i - 1] {
                new[j + 1] = new[j + 1].min(older[j - 1] + 1);
            }
        }
        rows.rotate_left(1);
    }
    rows[1][to.len()]
}

/// Bits of an integer that is narrower than its bytes, which is how bit fields were encoded at first.
pub(crate) fn old_bit_field(ty: Type<'_>) -> Option<(u32, u32)> {
    let int = ty.int()?;
    (int.offset != 0 || int.bits != ty.size.saturating_mul(8)).then_some((int.offset, int.bits))
}

/// `.member[3].member`
fn steps(mut rest: &str) -> Option<Vec<Step<'_>>> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let (index, after) = after.split_once(']')?;
            steps.push(Step::Index(index.parse().ok()?));
            rest = after;
        } else {
            let after = rest.strip_prefix('.')?;
            let (name, after) = after.split_at(after.find(['.', '[']).unwrap_or(after.len()));
            if name.is_empty() {
                return None;
            }
            steps.push(Step::Member(name));
            rest = after;
        }
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_near_was_meant() {
        let names: Vec<Cow<'_, str>> =
            ["s", "u8", "sk_buff", "sock", "task_struct", "tcp_sock", ""].map(Cow::from).into();
        let meant = [
            ("sk_buf", "sk_buff"),
            ("sok", "sock"),
            ("buff", "sk_buff"),
            ("task_strcut", "task_struct"),
            ("struct_task_struct", "task_struct"),
        ];
        for (name, near) in meant {
            assert_eq!(nearest(name, &names), Some(near), "{name}");
        }
        for name in ["x", "xy", "u", "", "nosuch", "tsk", "sockets_of_all", "frobnicate"] {
            assert_eq!(nearest(name, &names), None, "{name}");
        }
    }
}
