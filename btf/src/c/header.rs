//! A header: what stands around the definitions, and what is defined.

use super::declare::Label;
use super::names::Names;
use super::notes::Notes;
use super::order::{Met, functions, roots};
use super::print::{Place, Printer};
use super::tags::Tags;
use crate::Btf;
use crate::types::{Kind, Type, TypeId};

/// A C header with types of a blob, which is made piece by piece.
///
/// Types that have the same name get the numbers that bpftool gives them: the second `struct node` is `node___2`. Where a compiler
/// would lay out a structure otherwise than the types say, it is made to by unnamed bit fields and attributes. Types come in the
/// order of their names as far as C allows, so that the headers of two kernels can be compared.
pub struct Header<'a> {
    printer: Printer<'a>,
    roots: std::vec::IntoIter<TypeId>,
    functions: std::vec::IntoIter<TypeId>,
    met: Met,
    stage: Stage,
    has_functions: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    Types,
    Functions,
    End,
}

const START: &str = "\
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#if defined(__clang__) && defined(__bpf__) && !defined(BPF_NO_PRESERVE_ACCESS_INDEX)
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif
";
const WORDS: &str = "
#ifndef __has_attribute
#define __has_attribute(x) 0
#endif
#if __has_attribute(btf_type_tag)
#define __btf_type_tag(x) __attribute__((btf_type_tag(x)))
#else
#define __btf_type_tag(x)
#endif
#if __has_attribute(btf_decl_tag)
#define __btf_decl_tag(x) __attribute__((btf_decl_tag(x)))
#else
#define __btf_decl_tag(x)
#endif
";
const FUNCTIONS: &str = "\
#ifndef BPF_NO_KFUNC_PROTOTYPES
#ifndef __ksym
#define __ksym __attribute__((section(\".ksyms\")))
#endif
#ifndef __weak
#define __weak __attribute__((weak))
#endif
#if __has_attribute(bpf_fastcall)
#define __bpf_fastcall __attribute__((bpf_fastcall))
#else
#define __bpf_fastcall
#endif

";
const END_OF_FUNCTIONS: &str = "\
#endif /* BPF_NO_KFUNC_PROTOTYPES */

";
const END: &str = "\
#if defined(__clang__) && defined(__bpf__) && !defined(BPF_NO_PRESERVE_ACCESS_INDEX)
#pragma clang attribute pop
#endif

#endif /* __VMLINUX_H__ */
";

impl<'a> Header<'a> {
    /// All types, and the functions of the kernel that BPF programs may call; of a module, its own and what they need.
    pub fn new(btf: &'a Btf) -> Self {
        let tags = Tags::new(btf);
        let functions = functions(btf, &tags);
        let mut header = Self::with(btf, Names::new(btf, &functions), tags);
        header.roots = roots(btf).into_iter();
        header.functions = functions.into_iter();
        header
    }

    /// Some types, and all that they need.
    pub fn definitions(btf: &'a Btf, ids: &[TypeId]) -> String {
        let mut header = Self::with(btf, Names::new(btf, &[]), Tags::new(btf));
        ids.iter().for_each(|&id| header.met.define(id, &mut header.printer));
        let text = String::from_utf8_lossy(&header.printer.out);
        if text.contains("__btf_") { format!("{}\n{text}", WORDS.trim_start()) } else { text.into_owned() }
    }

    fn with(btf: &'a Btf, names: Names, tags: Tags) -> Self {
        let none = || Vec::new().into_iter();
        Self {
            printer: Printer::new(btf, names, tags, None),
            roots: none(),
            functions: none(),
            met: Met::new(btf),
            stage: Stage::Start,
            has_functions: false,
        }
    }

    /// One type, with remarks on where its members are, and without what it needs.
    pub fn annotated(btf: &'a Btf, id: TypeId) -> String {
        let mut printer = Printer::new(btf, Names::default(), Tags::new(btf), Some(Notes::default()));
        if let Ok(ty) = btf.ty(id) {
            printer.define(&ty);
        }
        String::from_utf8_lossy(&printer.out).into_owned()
    }

    /// The declaration of something of that type, such as a function or a member.
    pub fn declaration(btf: &'a Btf, id: TypeId, name: &str) -> String {
        let mut printer = Printer::new(btf, Names::default(), Tags::default(), None);
        let label = if name.is_empty() { Label::None } else { Label::Symbol(name.as_bytes()) };
        printer.declare(id, label, Place::OUTSIDE);
        String::from_utf8_lossy(&printer.out).into_owned()
    }

    /// The name that a type has in the header; of a structure, union or enumeration with the word in front of it. None where it
    /// has no name.
    pub fn name(&self, ty: &Type<'_>) -> Option<String> {
        let word = match ty.kind() {
            Kind::STRUCT | Kind::UNION => ty.kind().name(),
            Kind::ENUM | Kind::ENUM64 => "enum",
            Kind::TYPEDEF => "",
            _ => return None,
        };
        if ty.name().is_empty() {
            return None;
        }
        let mut name = word.as_bytes().to_vec();
        if !word.is_empty() {
            name.push(b' ');
        }
        self.printer.names.push(&mut name, ty);
        Some(String::from_utf8_lossy(&name).into_owned())
    }

    /// The next piece of the text, some lines; none when all has been said.
    pub fn next_piece(&mut self) -> Option<&str> {
        self.printer.out.clear();
        while self.printer.out.is_empty() {
            match self.stage {
                Stage::Start => {
                    self.printer.text(START);
                    self.printer.text(WORDS);
                    self.printer.text("\n");
                    self.stage = Stage::Types;
                }
                Stage::Types => match self.roots.next() {
                    Some(id) => self.met.define(id, &mut self.printer),
                    None => {
                        self.has_functions = self.functions.len() > 0;
                        if self.has_functions {
                            self.printer.text(FUNCTIONS);
                        }
                        self.stage = Stage::Functions;
                    }
                },
                Stage::Functions => match self.functions.next() {
                    Some(id) => self.met.declare_function(id, &mut self.printer),
                    None => {
                        self.stage = Stage::End;
                        if self.has_functions {
                            self.printer.text(END_OF_FUNCTIONS);
                        }
                        self.printer.text(END);
                    }
                },
                Stage::End => return None,
            }
        }
        // All that is printed is ASCII.
        Some(std::str::from_utf8(&self.printer.out).unwrap_or_default())
    }
}
