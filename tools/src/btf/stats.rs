//! `bpfkit btf stats`: what a file of types is made of.

use bpfkit_btf::{Btf, Kind, Type, TypeId};

use super::source::Input;
use crate::cli::Question;
use crate::output::Output;
use crate::{Error, Escaped};

/// Count types: by kind, by bytes, by size; what is nested most deeply, which names are there several times
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    input: Input,
    /// How many of the largest to list
    #[arg(short = 'n', long, default_value_t = 10, value_name = "N")]
    top: usize,
}

/// How deeply structures are looked into.
const DEPTH: usize = 64;

impl Question for Args {
    fn answer(&self, output: &mut Output) -> Result<(), Error> {
        let btf = self.input.open()?;
        let [header, types, strings] = btf.section_sizes();
        output.line(&format!(
            "{} types, {} bytes: header {header}, types {types}, strings {strings}",
            btf.len(),
            header + types + strings
        ))?;
        kinds(&btf, output)?;
        let aggregates = || btf.types().filter(|ty| matches!(ty.kind(), Kind::STRUCT | Kind::UNION));
        let spell = |id: u64| btf.spell(TypeId(u32::try_from(id).unwrap_or_default()));
        let sizes = aggregates().map(|ty| (ty.size().unwrap_or_default().into(), ty.id.0.into())).collect();
        list("Largest, in bytes", sizes, self.top, &spell, output)?;
        let counts = aggregates().map(|ty| (wide(ty.members().count()), ty.id.0.into())).collect();
        list("Most members", counts, self.top, &spell, output)?;
        let mut nesting = Nesting { btf: &btf, known: Vec::new() };
        let depths = aggregates().map(|ty| (nesting.depth(ty.id, DEPTH), ty.id));
        let mut deepest: Option<(u32, TypeId)> = None;
        for (depth, id) in depths.collect::<Vec<_>>() {
            if deepest.is_none_or(|(most, _)| depth > most) {
                deepest = Some((depth, id));
            }
        }
        if let Some((depth, id)) = deepest {
            output.line("")?;
            output.line(&format!("Nested most deeply, {depth} in each other:"))?;
            let chain: Vec<String> = nesting.chain(id).into_iter().map(|id| escaped(&btf.spell(id))).collect();
            output.line(&format!("  {}", chain.join(" > ")))?;
        }
        let named = [&[Kind::STRUCT, Kind::UNION, Kind::ENUM, Kind::ENUM64][..], &[Kind::TYPEDEF], &[Kind::FUNC]];
        let mut twice = Vec::new();
        for kinds in named {
            let types = btf.by_name(kinds);
            let mut rest = types.as_slice();
            while let Some(first) = rest.first() {
                let count = rest.iter().take_while(|ty| ty.name() == first.name()).count();
                if count > 1 {
                    twice.push((wide(count), first.id.0.into()));
                }
                rest = &rest[count..];
            }
        }
        let title = format!("Names that several types have, {} of them", twice.len());
        let name = |id: u64| {
            let ty = btf.ty(TypeId(u32::try_from(id).unwrap_or_default()));
            ty.map(|ty| format!("{} {}", ty.kind().name(), ty.name())).unwrap_or_default()
        };
        list(&title, twice, self.top, &name, output)?;
        output.flush()
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn escaped(text: &str) -> String {
    Escaped(text.as_bytes()).to_string()
}

/// How many types there are of each kind, and their bytes.
fn kinds(btf: &Btf, output: &mut Output) -> Result<(), Error> {
    let mut kinds = [(0_usize, 0_usize, 0_usize); 128];
    for ty in btf.types() {
        let (count, bytes, unnamed) = &mut kinds[usize::from(ty.kind().0 & 0x7f)];
        *count += 1;
        *bytes += ty.encoded_len();
        *unnamed += usize::from(ty.name().is_empty());
    }
    output.line("")?;
    output.line("KIND         TYPES  UNNAMED      BYTES")?;
    for (kind, (count, bytes, unnamed)) in (0..).map(Kind).zip(kinds).filter(|(_, (count, ..))| *count > 0) {
        let name = if kind.constant() == "UNKNOWN" { format!("KIND{}", kind.0) } else { kind.constant().to_owned() };
        output.line(&format!("{name:<10} {count:>7} {unnamed:>8} {bytes:>10}"))?;
    }
    Ok(())
}

/// Lists those with the largest numbers.
fn list(
    title: &str,
    mut rows: Vec<(u64, u64)>,
    top: usize,
    name: &dyn Fn(u64) -> String,
    output: &mut Output,
) -> Result<(), Error> {
    // Of equal numbers, the type that comes first.
    rows.iter_mut().for_each(|(number, _)| *number = u64::MAX - *number);
    rows.sort_unstable();
    output.line("")?;
    output.line(&format!("{title}:"))?;
    for &(number, id) in rows.iter().take(top) {
        output.line(&format!("  {:>10} {}", u64::MAX - number, escaped(&name(id))))?;
    }
    Ok(())
}

/// How many structures are within each other.
struct Nesting<'a> {
    btf: &'a Btf,
    /// By the number of the type.
    known: Vec<Option<u32>>,
}

impl Nesting<'_> {
    fn depth(&mut self, id: TypeId, left: usize) -> u32 {
        let index = usize::try_from(id.0).unwrap_or(usize::MAX);
        if let Some(&Some(known)) = self.known.get(index) {
            return known;
        }
        if left == 0 {
            return 0;
        }
        if self.known.len() <= index {
            self.known.resize((index + 1).next_power_of_two(), None);
        }
        self.known[index] = Some(0);
        let depth = 1 + self.parts(id).into_iter().map(|part| self.depth(part, left - 1)).max().unwrap_or(0);
        self.known[index] = Some(depth);
        depth
    }

    /// The structures that are members of one, or that a member is an array of.
    fn parts(&self, id: TypeId) -> Vec<TypeId> {
        let Ok(ty) = self.btf.ty(id) else { return Vec::new() };
        let part = |id: TypeId| {
            let mut ty = self.btf.ty(id).and_then(Type::resolved).ok()?;
            for _ in 0..DEPTH {
                if ty.kind() != Kind::ARRAY {
                    break;
                }
                ty = self.btf.ty(ty.target()?).and_then(Type::resolved).ok()?;
            }
            matches!(ty.kind(), Kind::STRUCT | Kind::UNION).then_some(ty.id)
        };
        ty.members().filter_map(|member| part(member.ty)).collect()
    }

    fn chain(&self, id: TypeId) -> Vec<TypeId> {
        let depth = |id: &TypeId| {
            let index = usize::try_from(id.0).unwrap_or(usize::MAX);
            self.known.get(index).copied().flatten().unwrap_or_default()
        };
        let mut chain = vec![id];
        while let Some(&last) = chain.last() {
            let next = self.parts(last).into_iter().filter(|part| depth(part) < depth(&last)).max_by_key(depth);
            match next {
                Some(part) if chain.len() < DEPTH => chain.push(part),
                _ => break,
            }
        }
        chain
    }
}
