//! Values as bytes and back (serde, postcard). What comes from another process is decoded within limits: of its bytes,
//! of how deep values are nested, and of how many there are, because values without bytes cost a bad peer nothing.

use std::cell::Cell;
use std::fmt;

use serde::Serialize;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// How deep values can be nested: a struct, sequence, map, enum, `Some` or newtype in another.
pub(crate) const DEEPEST: u32 = 128;
/// Elements without bytes that a value can have, beside those that its bytes can pay for.
const FREE: u64 = 1 << 20;

/// Why a value was not encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a value of type {of} can't be encoded: {why}")]
pub struct EncodeError {
    /// The value's type.
    pub of: &'static str,
    /// What the encoder said.
    pub why: postcard::Error,
}

/// Why bytes were not decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// They end too early, or hold what the type does not allow.
    #[error("{bytes} bytes are no value of type {of}: {why}")]
    Malformed {
        /// The type that was asked for.
        of: &'static str,
        /// How many there are.
        bytes: usize,
        /// What the decoder said.
        why: postcard::Error,
    },
    /// Something is left behind the value.
    #[error("behind a value of type {of}, {left} of {bytes} bytes are left")]
    Trailing {
        /// The type that was asked for.
        of: &'static str,
        /// How many there are.
        bytes: usize,
        /// How many are left.
        left: usize,
    },
    /// Values are nested too deeply.
    #[error("a value of type {of} is nested more than {most} deep")]
    TooDeep {
        /// The type that was asked for.
        of: &'static str,
        /// How deep they can be.
        most: u32,
    },
    /// The bytes claim far more values than they can hold.
    #[error("{bytes} bytes claim to hold more than {most} values, in one of type {of}")]
    TooMany {
        /// The type that was asked for.
        of: &'static str,
        /// How many bytes there are.
        bytes: usize,
        /// How many values they can hold.
        most: u64,
    },
}

/// A value as bytes.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    postcard::to_allocvec(value).map_err(|why| EncodeError { of: std::any::type_name::<T>(), why })
}

/// The value that these bytes are, all of them.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let of = std::any::type_name::<T>();
    // A value that takes bytes is an element in each of those around it, and of these there are so many.
    let most = FREE.saturating_add((bytes.len() as u64).saturating_mul(u64::from(DEEPEST) + 1));
    let limits = Limits { depth: Cell::new(DEEPEST), values: Cell::new(most), broken: Cell::new(None) };
    let mut from = postcard::Deserializer::from_bytes(bytes);
    let decoded = T::deserialize(Guard { inner: &mut from, limits: &limits });
    let left = from.finalize().map_or(0, <[u8]>::len);
    match (decoded, limits.broken.get()) {
        (_, Some(Limit::Depth)) => Err(DecodeError::TooDeep { of, most: DEEPEST }),
        (_, Some(Limit::Values)) => Err(DecodeError::TooMany { of, bytes: bytes.len(), most }),
        (Err(why), None) => Err(DecodeError::Malformed { of, bytes: bytes.len(), why }),
        (Ok(_), None) if left > 0 => Err(DecodeError::Trailing { of, bytes: bytes.len(), left }),
        (Ok(value), None) => Ok(value),
    }
}

#[derive(Debug, Clone, Copy)]
enum Limit {
    Depth,
    Values,
}

/// What is left.
#[derive(Debug)]
struct Limits {
    depth: Cell<u32>,
    values: Cell<u64>,
    /// Which one was broken; the decoder's own errors can't say.
    broken: Cell<Option<Limit>>,
}

impl Limits {
    /// Goes a level down, and up again.
    fn deeper<V, E: serde::de::Error>(&self, f: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        let depth = self.depth.get();
        let Some(left) = depth.checked_sub(1) else { return Err(self.break_off(Limit::Depth)) };
        self.depth.set(left);
        let result = f();
        self.depth.set(depth);
        result
    }

    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        let Some(left) = self.values.get().checked_sub(1) else { return Err(self.break_off(Limit::Values)) };
        self.values.set(left);
        Ok(())
    }

    fn break_off<E: serde::de::Error>(&self, limit: Limit) -> E {
        self.broken.set(Some(limit));
        E::custom("a limit")
    }
}

/// Something of serde's that hands everything on and looks at the limits.
struct Guard<'l, X> {
    inner: X,
    limits: &'l Limits,
}

impl<'l, X> Guard<'l, X> {
    fn of<Y>(&self, inner: Y) -> Guard<'l, Y> {
        Guard { inner, limits: self.limits }
    }
}

macro_rules! hand_on {
    ($($name:ident($($arg:ident: $t:ty),*);)*) => {$(
        fn $name<V: Visitor<'de>>(self, $($arg: $t,)* visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.of(visitor);
            self.inner.$name($($arg,)* visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Guard<'_, D> {
    type Error = D::Error;

    hand_on! {
        deserialize_any(); deserialize_bool(); deserialize_char(); deserialize_str(); deserialize_string();
        deserialize_i8(); deserialize_i16(); deserialize_i32(); deserialize_i64(); deserialize_i128();
        deserialize_u8(); deserialize_u16(); deserialize_u32(); deserialize_u64(); deserialize_u128();
        deserialize_f32(); deserialize_f64(); deserialize_bytes(); deserialize_byte_buf(); deserialize_option();
        deserialize_unit(); deserialize_seq(); deserialize_map(); deserialize_identifier();
        deserialize_ignored_any();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! plain {
    ($($name:ident($t:ty);)*) => {$(
        fn $name<E: serde::de::Error>(self, v: $t) -> Result<V::Value, E> {
            self.inner.$name(v)
        }
    )*};
}

macro_rules! nested {
    ($($name:ident: $access:ident;)*) => {$(
        fn $name<A: $access<'de>>(self, access: A) -> Result<V::Value, A::Error> {
            let access = self.of(access);
            self.limits.deeper(|| self.inner.$name(access))
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Guard<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    plain! {
        visit_bool(bool); visit_char(char); visit_str(&str); visit_borrowed_str(&'de str); visit_string(String);
        visit_i8(i8); visit_i16(i16); visit_i32(i32); visit_i64(i64); visit_i128(i128);
        visit_u8(u8); visit_u16(u16); visit_u32(u32); visit_u64(u64); visit_u128(u128);
        visit_f32(f32); visit_f64(f64);
        visit_bytes(&[u8]); visit_borrowed_bytes(&'de [u8]); visit_byte_buf(Vec<u8>);
    }

    nested! {
        visit_some: Deserializer; visit_newtype_struct: Deserializer; visit_seq: SeqAccess; visit_map: MapAccess;
        visit_enum: EnumAccess;
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Guard<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<S::Value, D::Error> {
        let from = self.of(from);
        self.inner.deserialize(from)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Guard<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.limits.count()?;
        let seed = self.of(seed);
        self.inner.next_element_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Guard<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.limits.count()?;
        let seed = self.of(seed);
        self.inner.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.of(seed);
        self.inner.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, 'l, A: EnumAccess<'de>> EnumAccess<'de> for Guard<'l, A> {
    type Error = A::Error;
    type Variant = Guard<'l, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let (seed, limits) = (self.of(seed), self.limits);
        let (value, inner) = self.inner.variant_seed(seed)?;
        Ok((value, Guard { inner, limits }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Guard<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.of(seed);
        self.inner.newtype_variant_seed(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.of(visitor);
        self.inner.tuple_variant(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.of(visitor);
        self.inner.struct_variant(fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    enum Tree {
        Leaf,
        Unit(u8),
        Pair(i64, f64),
        Node { name: String, next: Box<Tree>, map: BTreeMap<String, Option<char>> },
    }

    fn chain(len: usize) -> Tree {
        (0..len).fold(Tree::Leaf, |next, i| Tree::Node {
            name: i.to_string(),
            next: Box::new(next),
            map: BTreeMap::from([("a".to_owned(), Some('b')), ("c".to_owned(), None)]),
        })
    }

    #[test]
    fn every_form_of_value_comes_back() {
        type All = (Vec<Tree>, (bool, char, u128, i128), Option<Box<[u16]>>, (f32, i8, i16, i32), ());
        let trees = vec![chain(5), Tree::Unit(3), Tree::Pair(-4, 0.5), Tree::Leaf];
        let numbers = (true, 'ä', u128::MAX, i128::MIN);
        let all: All = (trees, numbers, Some(Box::new([1, 2])), (1.5, -1, -2, -3), ());
        let bytes = encode(&all).expect("it can be encoded");
        assert_eq!(decode::<All>(&bytes), Ok(all));
        // Cut off anywhere it is none.
        for len in 0..bytes.len() {
            assert!(matches!(decode::<All>(&bytes[..len]), Err(DecodeError::Malformed { .. })), "{len}");
        }
        let more = [&bytes[..], &[0]].concat();
        assert!(matches!(decode::<All>(&more), Err(DecodeError::Trailing { left: 1, .. })));
    }

    #[test]
    fn what_is_nested_without_end_is_refused() {
        let fits = chain(DEEPEST as usize / 2 - 2);
        assert_eq!(decode::<Tree>(&encode(&fits).expect("encoded")), Ok(fits));
        let said = decode::<Tree>(&encode(&chain(DEEPEST as usize)).expect("encoded")).expect_err("too deep");
        assert!(matches!(said, DecodeError::TooDeep { most: DEEPEST, .. }), "{said}");
        #[derive(Deserialize, Debug)]
        struct Endless(#[allow(dead_code)] Option<Box<Endless>>);
        let said = decode::<Endless>(&[1; 1 << 20]).expect_err("a million deep");
        assert!(matches!(said, DecodeError::TooDeep { .. }), "{said}");
    }

    #[test]
    fn small_values_in_values_are_not_too_many() {
        let many = vec![[7_u8; 3]; 1_100_000];
        assert_eq!(decode::<Vec<[u8; 3]>>(&encode(&many).expect("encoded")), Ok(many));
        let deep = vec![[[[[[[[7_u8]]]]]]]; 300_000];
        assert_eq!(
            decode::<Vec<[[[[[[[u8; 1]; 1]; 1]; 1]; 1]; 1]; 1]>>(&encode(&deep).expect("encoded")),
            Ok(deep)
        );
    }

    #[test]
    fn values_that_cost_nothing_are_counted() {
        let said = decode::<Vec<()>>(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1])
            .expect_err("too many");
        assert!(matches!(said, DecodeError::TooMany { bytes: 10, .. }), "{said}");
        let some = vec![(); 1000];
        assert_eq!(decode::<Vec<()>>(&encode(&some).expect("encoded")), Ok(some));
        assert!(decode::<Vec<u64>>(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).is_err());
    }
}
