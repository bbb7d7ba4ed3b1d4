//! Declarations: a type wrapped around a name, as C has it.

use super::ident;
use super::print::{Place, Printer};
use crate::types::{Kind, Type, TypeId};

/// What is declared.
#[derive(Clone, Copy)]
pub(super) enum Label<'a> {
    /// Nothing, as in a cast.
    None,
    /// A member or a parameter.
    Word(&'a [u8]),
    /// A typedef.
    Type(Type<'a>),
    /// A function, whose name is the linker's.
    Symbol(&'a [u8]),
}

/// A part of a declarator.
#[derive(Clone, Copy)]
enum Part<'a> {
    Nothing,
    Pointer,
    /// A qualifier or an attribute, which stands behind the `*` of a pointer, or beside the name of another type.
    Beside(Type<'a>),
    Array(u32),
    Function(Type<'a>),
}

impl Part<'_> {
    fn binds_closer(self) -> bool {
        matches!(self, Self::Array(_) | Self::Function(_))
    }

    fn is_beside(self) -> bool {
        matches!(self, Self::Beside(_) | Self::Nothing)
    }
}

/// How many parts a declarator may have; kernels have up to eight.
const PARTS: usize = 32;

impl<'a> Printer<'a> {
    /// Appends a declaration without its semicolon. What has no spelling, or would never end, becomes an `int` with a comment.
    pub(super) fn declare(&mut self, id: TypeId, label: Label<'a>, place: Place) {
        let mut parts = [Part::Nothing; PARTS];
        let mut len = 0;
        let mut next = id;
        let base = loop {
            let Ok(ty) = self.btf.ty(next) else { break None };
            let part = match ty.kind() {
                Kind::PTR => Part::Pointer,
                Kind::CONST | Kind::VOLATILE | Kind::RESTRICT | Kind::TYPE_TAG => Part::Beside(ty),
                Kind::ARRAY => Part::Array(ty.array_len().unwrap_or_default()),
                Kind::FUNC_PROTO => Part::Function(ty),
                _ => break Some(ty),
            };
            let Some(slot) = parts.get_mut(len) else { break None };
            *slot = part;
            len += 1;
            next = ty.target().unwrap_or_default();
        };
        let parts = &mut parts[..len];
        self.spend();
        // A qualifier of an array is one of its elements, and that of a function is none.
        for start in (0..len).rev().filter(|&index| parts[index].is_beside()).collect::<Vec<_>>() {
            let mut at = start;
            while at + 1 < len && matches!(parts[at + 1], Part::Array(_)) {
                parts.swap(at, at + 1);
                at += 1;
            }
            if matches!(parts.get(at + 1), Some(Part::Function(_))) {
                parts[at] = Part::Nothing;
            }
        }
        let split = parts.iter().rposition(|part| !part.is_beside()).map_or(0, |last| last + 1);
        let (declarator, around) = parts.split_at(split);
        self.base(base, around, place);
        let is_named = !matches!(label, Label::None) || declarator.iter().any(|part| matches!(part, Part::Pointer));
        if is_named {
            self.out.push(b' ');
        }
        self.left_side(declarator);
        match label {
            Label::None => {}
            Label::Word(name) => {
                ident::push(&mut self.out, name);
                if ident::is_reserved(name) {
                    self.text("___2");
                }
            }
            Label::Type(ty) => self.names.push(&mut self.out, &ty),
            Label::Symbol(name) => ident::push(&mut self.out, name),
        }
        self.right_side(declarator, place);
    }

    /// What all the rest stands behind: the name of a type, with its qualifiers.
    fn base(&mut self, base: Option<Type<'a>>, around: &[Part<'a>], place: Place) {
        let words = |part: &Part<'a>| match part {
            Part::Beside(ty) => Some(*ty),
            _ => None,
        };
        let is_pointer_name = base.as_ref().is_some_and(|ty| ty.kind() == Kind::TYPEDEF);
        let mut said = [false; 3];
        for ty in around.iter().filter_map(words) {
            let word = match ty.kind() {
                Kind::CONST => 0,
                Kind::VOLATILE => 1,
                Kind::RESTRICT if is_pointer_name => 2,
                _ => continue,
            };
            if !std::mem::replace(&mut said[word], true) {
                self.text(["const ", "volatile ", "restrict "][word]);
            }
        }
        match base {
            Some(ty) if self.left > 0 => self.type_name(&ty, place),
            Some(_) => self.text("int /* left out: there is more than there can be */"),
            None => self.text("int /* broken: a type that is not there, or that goes on without end */"),
        }
        for tag in around.iter().filter_map(words).filter(|ty| ty.kind() == Kind::TYPE_TAG) {
            self.text(" ");
            self.tag(&tag);
        }
    }

    /// `*` and what belongs to it, from the base to the name.
    fn left_side(&mut self, declarator: &[Part<'a>]) {
        let mut is_apart = true;
        for (index, part) in declarator.iter().enumerate().rev() {
            if !is_apart && !matches!(part, Part::Nothing) {
                self.out.push(b' ');
                is_apart = true;
            }
            match part {
                Part::Pointer => {
                    if declarator.get(index + 1).is_some_and(|part| part.binds_closer()) {
                        self.out.push(b'(');
                    }
                    self.out.push(b'*');
                }
                Part::Beside(ty) if ty.kind() == Kind::TYPE_TAG => {
                    self.tag(ty);
                    is_apart = false;
                }
                Part::Beside(ty) => {
                    self.text(ty.kind().name());
                    is_apart = false;
                }
                Part::Nothing | Part::Array(_) | Part::Function(_) => {}
            }
        }
        if !is_apart {
            self.out.push(b' ');
        }
    }

    /// Elements and parameters, from the name outwards.
    fn right_side(&mut self, declarator: &[Part<'a>], place: Place) {
        for (index, part) in declarator.iter().enumerate() {
            match part {
                Part::Array(len) => {
                    self.out.push(b'[');
                    ident::number(&mut self.out, (*len).into());
                    self.out.push(b']');
                }
                Part::Function(ty) => self.params(ty, place),
                Part::Pointer if declarator.get(index + 1).is_some_and(|part| part.binds_closer()) => {
                    self.out.push(b')');
                }
                _ => {}
            }
        }
    }

    fn params(&mut self, proto: &Type<'a>, place: Place) {
        self.out.push(b'(');
        let count = proto.elements();
        for index in 0..count {
            let [name, id, _] = proto.element(index, 2);
            if index > 0 {
                self.text(", ");
            }
            let Some(inner) = place.inner().filter(|_| self.left > 0) else {
                self.text("/* and so on */");
                break;
            };
            match proto.btf.string(name) {
                _ if id == 0 && index > 0 => {
                    self.spend();
                    self.text("...");
                }
                b"" => self.declare(TypeId(id), Label::None, inner),
                name => self.declare(TypeId(id), Label::Word(name), inner),
            }
        }
        if count == 0 {
            self.text("void");
        }
        self.out.push(b')');
    }

    /// An attribute of a type, in the words that are defined for it.
    pub(super) fn tag(&mut self, tag: &Type<'a>) {
        let name = tag.btf.string(tag.name_off);
        let (word, is_attribute) = match (tag.kind(), tag.flag()) {
            (_, true) => ("__attribute__((", true),
            (Kind::TYPE_TAG, false) => ("__btf_type_tag(", false),
            _ => ("__btf_decl_tag(", false),
        };
        if !is_attribute {
            self.text(word);
            ident::quoted(&mut self.out, name);
            self.text(")");
        } else if is_attribute_text(name) {
            self.text(word);
            self.out.extend_from_slice(name);
            self.text("))");
        } else {
            self.text("/* an attribute that is none */");
        }
    }
}

/// Whether it is a name, as it stands in an attribute, perhaps with an argument: `address_space(1)`.
fn is_attribute_text(text: &[u8]) -> bool {
    let is_word =
        |word: &[u8]| !word.is_empty() && word.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    match text.strip_suffix(b")") {
        None => is_word(text),
        Some(text) => {
            let mut words = text.splitn(2, |&byte| byte == b'(');
            words.next().is_some_and(is_word) && words.next().is_some_and(is_word)
        }
    }
}
