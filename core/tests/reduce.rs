//! Reduction kernels against a naive oracle: every dtype, operation and level.

use half::{bf16, f16};
use proptest::prelude::*;
use sapwood_core::dtype::{Dtype, Element};
use sapwood_core::reduce::{Kernel, Level, Op};

/// An element type with a naive meaning for each operation.
trait Naive: Element {
    /// Values where mistakes show.
    fn special() -> Vec<Self>;
    fn from_word(word: u64) -> Self;
    fn word(self) -> u64;
    fn is_nan(self) -> bool;
    /// The whole fold, in order, or nothing if the operation is refused.
    fn naive(op: Op, sources: &[Self]) -> Option<Self>;
}

macro_rules! naive_integer {
    ($($t:ty),*) => {
        $(
            impl Naive for $t {
                fn special() -> Vec<Self> {
                    let small = [0, 1, 2, 3, 15, 16, 100];
                    let mut all = vec![<$t>::MAX, <$t>::MIN, <$t>::MAX / 2, <$t>::MAX - 1, (<$t>::MAX / 7) * 3, !0, !1];
                    all.extend(small.map(|v: u8| v as $t));
                    all
                }
                fn from_word(word: u64) -> Self {
                    word as $t
                }
                fn word(self) -> u64 {
                    self as u64
                }
                fn is_nan(self) -> bool {
                    false
                }
                /// In 128 bits, cut off after each step.
                fn naive(op: Op, sources: &[Self]) -> Option<Self> {
                    let mut result = sources[0];
                    for &s in &sources[1..] {
                        let (x, y) = (result as i128, s as i128);
                        result = match op {
                            Op::Sum => (x + y) as $t,
                            Op::Prod => x.wrapping_mul(y) as $t,
                            Op::Min => if y < x { s } else { result },
                            Op::Max => if y > x { s } else { result },
                            Op::And => (x & y) as $t,
                            Op::Or => (x | y) as $t,
                            Op::Xor => (x ^ y) as $t,
                            Op::Avg => return None,
                        };
                    }
                    (op != Op::Avg).then_some(result)
                }
            }
        )*
    };
}

naive_integer!(i8, i16, i32, i64, u8, u16, u32, u64);

fn naive_float(op: Op, x: f64, y: f64) -> f64 {
    let y_is_less = y < x || (y == x && y.is_sign_negative());
    let y_is_greater = y > x || (y == x && y.is_sign_positive());
    match op {
        Op::Min | Op::Max if x.is_nan() || y.is_nan() => f64::NAN,
        Op::Min => [x, y][usize::from(y_is_less)],
        Op::Max => [x, y][usize::from(y_is_greater)],
        _ => unreachable!("only for comparisons"),
    }
}

macro_rules! naive_float {
    ($($t:ty as $number:ty: $bits:ty, $widen:expr, $narrow:expr, $special:expr;)*) => {
        $(
            impl Naive for $t {
                fn special() -> Vec<Self> {
                    let positive: [$bits; 9] = $special;
                    let sign: $bits = 1 << (<$bits>::BITS - 1);
                    let simple = [1.0f32, 2.0, 3.0, 0.5, 1000.0, 65504.0, 0.1].map(|x| $narrow(x as $number));
                    let mut all: Vec<$t> = simple.to_vec();
                    all.extend(positive.iter().flat_map(|&b| [<$t>::from_bits(b), <$t>::from_bits(b | sign)]));
                    all
                }
                fn from_word(word: u64) -> Self {
                    <$t>::from_bits(word as $bits)
                }
                fn word(self) -> u64 {
                    self.to_bits() as u64
                }
                fn is_nan(self) -> bool {
                    <$t>::is_nan(self)
                }
                fn naive(op: Op, sources: &[Self]) -> Option<Self> {
                    let mut result: $number = $widen(sources[0]);
                    for &s in &sources[1..] {
                        let s: $number = $widen(s);
                        result = match op {
                            Op::Sum | Op::Avg => result + s,
                            Op::Prod => result * s,
                            Op::Min | Op::Max => naive_float(op, result as f64, s as f64) as $number,
                            Op::And | Op::Or | Op::Xor => return None,
                        };
                    }
                    if op == Op::Avg {
                        result /= sources.len() as $number;
                    }
                    (!matches!(op, Op::And | Op::Or | Op::Xor)).then(|| $narrow(result))
                }
            }
        )*
    };
}

// Special bits: 0, least and greatest subnormal, least normal, greatest, infinity, quiet and two signalling NaNs.
naive_float! {
    f16 as f32: u16, f16::to_f32, f16::from_f32,
        [0, 1, 0x03ff, 0x0400, 0x7bff, 0x7c00, 0x7e00, 0x7c01, 0x7dff];
    bf16 as f32: u16, bf16::to_f32, bf16::from_f32,
        [0, 1, 0x007f, 0x0080, 0x7f7f, 0x7f80, 0x7fc0, 0x7f81, 0x7fbf];
    f32 as f32: u32, |x: f32| x, |x: f32| x,
        [0, 1, 0x007f_ffff, 0x0080_0000, 0x7f7f_ffff, 0x7f80_0000, 0x7fc0_0000, 0x7f80_0001, 0x7fbf_ffff];
    f64 as f64: u64, |x: f64| x, |x: f64| x,
        [0, 1, (1 << 52) - 1, 1 << 52, (0x7fef << 48) | ((1 << 48) - 1), 0x7ff0 << 48, 0x7ff8 << 48, (0x7ff0 << 48) | 1,
         (0x7ff8 << 48) - 1];
}

/// Runs a generic test for each dtype.
macro_rules! each_dtype {
    ($test:ident) => {
        each_dtype!($test: i8 i16 i32 i64 u8 u16 u32 u64 f16 bf16 f32 f64)
    };
    ($test:ident: $($t:ty)*) => {
        $( $test::<$t>(); )*
    };
}

/// All kernels of a dtype that this CPU runs.
fn kernels<T: Element>() -> Vec<(Level, Kernel<T>)> {
    let mut all = Vec::new();
    for level in Level::ALL {
        for op in Op::ALL {
            match Kernel::<T>::at_level(op, level) {
                Ok(Some(kernel)) => all.push((level, kernel)),
                Ok(None) => eprintln!("not checked: this CPU does not have {level} for {op} of {}", T::DTYPE),
                Err(_) => assert!(T::naive_refuses(op), "{op} of {} is refused", T::DTYPE),
            }
        }
    }
    all
}

trait Refuses {
    fn naive_refuses(op: Op) -> bool;
}

impl<T: Element> Refuses for T {
    fn naive_refuses(op: Op) -> bool {
        let float = matches!(T::DTYPE, Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64);
        match op {
            Op::Avg => !float,
            Op::And | Op::Or | Op::Xor => float,
            _ => false,
        }
    }
}

/// xorshift64*, so that failures repeat.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One third special values, one third moderate numbers (as bits of their type: small integers), one third bits.
    fn elements<T: Naive>(&mut self, n: usize) -> Vec<T> {
        let special = T::special();
        (0..n)
            .map(|_| match self.next() % 3 {
                0 => special[self.next() as usize % special.len()],
                1 => special[self.next() as usize % 7],
                _ => T::from_word(self.next()),
            })
            .collect()
    }
}

#[track_caller]
fn assert_same<T: Naive>(got: T, want: T, what: impl Fn() -> String) {
    let same = got.word() == want.word() || (got.is_nan() && want.is_nan());
    assert!(same, "{}: got {got:?} ({:#x}), not {want:?} ({:#x})", what(), got.word(), want.word());
}

/// A tensor that starts `offset` elements into an allocation, with elements around it that must not change.
struct Guarded<T> {
    all: Vec<T>,
    offset: usize,
}

const GUARD: usize = 80;

impl<T: Naive> Guarded<T> {
    fn new(offset: usize, values: &[T]) -> Guarded<T> {
        let mut all = vec![T::from_word(0x5a5a_5a5a_5a5a_5a5a); offset];
        all.extend_from_slice(values);
        all.resize(offset + values.len() + GUARD, T::from_word(0x5a5a_5a5a_5a5a_5a5a));
        Guarded { all, offset }
    }

    fn ptr(&mut self) -> *mut T {
        self.all[self.offset..].as_mut_ptr()
    }

    fn values(&self) -> &[T] {
        let guard = T::from_word(0x5a5a_5a5a_5a5a_5a5a);
        let end = self.all.len() - GUARD;
        assert!(self.all[..self.offset].iter().chain(&self.all[end..]).all(|&v| v == guard), "wrote outside");
        &self.all[self.offset..end]
    }
}

fn sizes() -> impl Iterator<Item = usize> {
    let longest = if cfg!(miri) { 40 } else { 130 };
    let big: &[usize] =
        if cfg!(miri) { &[131] } else { &[255, 256, 257, 511, 1023, 1025, 2049, 4095, 4097, 9001] };
    (0..=longest).chain(big.iter().copied())
}

fn check_pair<T: Naive>() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (level, kernel) in kernels::<T>() {
        let op = kernel.op();
        for n in sizes() {
            let (left, right) = (random.elements::<T>(n), random.elements::<T>(n));
            let want: Vec<T> = (0..n).map(|i| T::naive(op, &[left[i], right[i]]).unwrap()).collect();
            for alias in ["neither", "left", "right"] {
                let at = [random.next() % 20, random.next() % 20, random.next() % 20].map(|o| o as usize);
                let (mut a, mut b) = (Guarded::new(at[0], &left), Guarded::new(at[1], &right));
                let mut c = Guarded::new(at[2], &vec![T::default(); n]);
                let (pa, pb) = (a.ptr(), b.ptr());
                let dst = match alias {
                    "left" => pa,
                    "right" => pb,
                    _ => c.ptr(),
                };
                // SAFETY: three separate tensors of n elements, and the destination is exactly one of them.
                unsafe { kernel.pair(dst, pa, pb, n) };
                let what = |i: usize| {
                    move || {
                        format!(
                            "{op} of {} on {level}, n {n}, dst is {alias}, at {at:?}, element {i}",
                            T::DTYPE
                        )
                    }
                };
                let (got, kept) = match alias {
                    "left" => (a.values(), vec![(b.values(), &right)]),
                    "right" => (b.values(), vec![(a.values(), &left)]),
                    _ => (c.values(), vec![(a.values(), &left), (b.values(), &right)]),
                };
                for i in 0..n {
                    assert_same(got[i], want[i], what(i));
                    for (now, before) in &kept {
                        assert_eq!(now[i].word(), before[i].word(), "a source changed: {}", what(i)());
                    }
                }
            }
        }
    }
}

#[test]
fn pair_is_the_naive_result() {
    each_dtype!(check_pair);
}

/// Which tensor each destination is: the number of a source, or one of its own from `OWN` on.
const OWN: usize = 100;

/// Folds sources into destinations and compares each with the oracle, and pair with fold.
fn fold_case<T: Naive>(
    level: Level,
    kernel: Kernel<T>,
    inputs: &[Vec<T>],
    dests: &[usize],
    random: &mut Random,
) {
    let (op, n) = (kernel.op(), inputs[0].len());
    let mut tensors: Vec<_> = inputs.iter().map(|v| Guarded::new(random.next() as usize % 20, v)).collect();
    let mut fresh: Vec<_> = dests.iter().map(|_| Guarded::new(3, &vec![T::default(); n])).collect();
    let src: Vec<*mut T> = tensors.iter_mut().map(Guarded::ptr).collect();
    let new: Vec<*mut T> = fresh.iter_mut().map(Guarded::ptr).collect();
    let dst: Vec<*mut T> = dests.iter().map(|&d| if d >= OWN { new[d - OWN] } else { src[d] }).collect();
    // SAFETY: every tensor is an allocation of its own with n elements, and each destination is exactly one.
    unsafe { kernel.fold(n, src.len(), |k| src[k].cast_const(), dst.len(), |k| dst[k]) };
    for &d in dests {
        let got = if d >= OWN { fresh[d - OWN].values() } else { tensors[d].values() };
        for i in 0..n {
            let column: Vec<T> = inputs.iter().map(|v| v[i]).collect();
            let want = if column.len() == 1 { column[0] } else { T::naive(op, &column).unwrap() };
            let what =
                || format!("{op} of {} on {level}, n {n}, {column:?} into {dests:?}, element {i}", T::DTYPE);
            assert_same(got[i], want, what);
        }
    }
    for (k, input) in inputs.iter().enumerate().filter(|(k, _)| !dests.contains(k)) {
        let same = tensors[k].values().iter().zip(input).all(|(x, y)| x.word() == y.word());
        assert!(same, "source {k} changed: {op} of {} on {level}, n {n}, {dests:?}", T::DTYPE);
    }
}

fn check_fold<T: Naive>() {
    let mut random = Random(0x1234_5678_9abc_def1);
    for (level, kernel) in kernels::<T>() {
        for sources in 1..=9 {
            let last = sources - 1;
            let in_place: Vec<usize> = (0..sources).collect();
            let reversed: Vec<usize> = (0..sources).rev().collect();
            let shapes: [&[usize]; 8] =
                [&[], &[OWN], &[0], &[last], &[OWN, OWN + 1], &[last, OWN + 1, 0], &in_place, &reversed];
            for shape in shapes {
                // All sizes in turn over the shapes, so that the product stays small; the shortest always.
                let some = sizes().filter(|n| *n < 3 || random.next().is_multiple_of(12)).collect::<Vec<_>>();
                for n in some {
                    let inputs: Vec<Vec<T>> = (0..sources).map(|_| random.elements(n)).collect();
                    fold_case(level, kernel, &inputs, shape, &mut random);
                }
            }
        }
    }
}

#[test]
fn fold_is_the_naive_result_in_every_destination() {
    each_dtype!(check_fold);
}

/// One kernel runs whole, the other in uneven parts: the same bits, except in NaNs.
fn check_cuts<T: Naive>() {
    let mut random = Random(77);
    let n = if cfg!(miri) { 150 } else { 6000 };
    for (level, kernel) in kernels::<T>() {
        let inputs: Vec<Vec<T>> = (0..5).map(|_| random.elements(n)).collect();
        for sources in [2, 3, 5] {
            let (mut whole, mut parts) = (vec![T::default(); n], vec![T::default(); n]);
            let (w, p) = (whole.as_mut_ptr(), parts.as_mut_ptr());
            // SAFETY: all tensors are of n elements, and each part lies within.
            unsafe { kernel.fold(n, sources, |k| inputs[k].as_ptr(), 1, |_| w) };
            let mut i = 0;
            while i < n {
                let len = (random.next() as usize % 200).min(n - i);
                // SAFETY: i + len <= n.
                unsafe {
                    let src = |k: usize| inputs[k].as_ptr().add(i);
                    match sources {
                        2 if i % 2 == 0 => kernel.pair(p.add(i), src(0), src(1), len),
                        _ => kernel.fold(len, sources, src, 1, |_| p.add(i)),
                    }
                }
                i += len;
            }
            for i in 0..n {
                assert_same(parts[i], whole[i], || {
                    format!("{} of {} on {level}, {sources} sources, element {i}", kernel.op(), T::DTYPE)
                });
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_cuts() {
    each_dtype!(check_cuts);
}

fn check_refill<T: Naive>() {
    let mut random = Random(4242);
    let big = if cfg!(miri) { 90 } else { 5000 };
    for (level, kernel) in kernels::<T>() {
        for (n, m) in
            [(0, 0), (1, 1), (7, 3), (3, 7), (64, 64), (65, 0), (0, 65), (big, big), (big, 70), (70, big)]
        {
            let long = n.max(m);
            let (left, right) = (random.elements::<T>(long), random.elements::<T>(long));
            let from = random.elements::<T>(m);
            for (refill_left, in_place) in [(true, false), (true, true), (false, false), (false, true)] {
                let (mut a, mut b) = (Guarded::new(1, &left), Guarded::new(2, &right));
                // The new values lie behind the destination, in the same tensor.
                let mut c = Guarded::new(3, &[vec![T::default(); n], from.clone()].concat());
                let (pa, pb, pc) = (a.ptr(), b.ptr(), c.ptr());
                let (refill, other) = if refill_left { (pa, pb) } else { (pb, pa) };
                let dst = if in_place { other } else { pc };
                // SAFETY: a and b have max(n, m) elements, c has n + m, and the ranges are as the contract wants.
                unsafe { kernel.pair_refill(dst, pa, pb, n, refill, pc.add(n), m) };
                let (refilled, before, other) = match refill_left {
                    true => (a.values(), &left, b.values()),
                    false => (b.values(), &right, a.values()),
                };
                let got = if in_place { other } else { c.values() };
                let what =
                    |i| format!("{} of {} on {level}, {n} and {m}, element {i}", kernel.op(), T::DTYPE);
                for i in 0..n {
                    let want = T::naive(kernel.op(), &[left[i], right[i]]).unwrap();
                    assert_same(got[i], want, || what(i));
                }
                for i in 0..long {
                    let want = if i < m { from[i] } else { before[i] };
                    assert_eq!(refilled[i].word(), want.word(), "refill: {}", what(i));
                }
            }
        }
    }
}

#[test]
fn refill_is_pair_and_then_copy() {
    each_dtype!(check_refill);
}

/// Every 16-bit float with some partners, on either side.
fn check_halves<T: Naive>() {
    let every: Vec<T> =
        (0..=u16::MAX).step_by(if cfg!(miri) { 401 } else { 1 }).map(|w| T::from_word(w.into())).collect();
    for (level, kernel) in kernels::<T>() {
        for partner in T::special() {
            let partners = vec![partner; every.len()];
            let mut got = vec![T::default(); every.len()];
            for swap in [false, true] {
                let (a, b) = if swap { (&partners, &every) } else { (&every, &partners) };
                // SAFETY: three tensors of the same length.
                unsafe { kernel.pair(got.as_mut_ptr(), a.as_ptr(), b.as_ptr(), every.len()) };
                for i in 0..every.len() {
                    let want = T::naive(kernel.op(), &[a[i], b[i]]).unwrap();
                    assert_same(got[i], want, || {
                        format!("{} of {:?} and {:?} on {level}", kernel.op(), a[i], b[i])
                    });
                }
            }
        }
    }
}

#[test]
fn every_16_bit_float() {
    each_dtype!(check_halves: f16 bf16);
}

/// Sums that overflow, or lose everything, if each step is rounded.
#[test]
fn halves_are_rounded_once() {
    for level in Level::ALL {
        let Some(sum) = Kernel::<f16>::at_level(Op::Sum, level).unwrap() else { continue };
        let Some(avg) = Kernel::<bf16>::at_level(Op::Avg, level).unwrap() else { continue };
        for n in [3, 100] {
            let values = [60000.0, 60000.0, -60000.0].map(|x| vec![f16::from_f32(x); n]);
            let mut got = vec![f16::ZERO; n];
            let dst = got.as_mut_ptr();
            // SAFETY: all tensors have n elements.
            unsafe { sum.fold(n, 3, |k| values[k].as_ptr(), 1, |_| dst) };
            assert_eq!(got, vec![f16::from_f32(60000.0); n], "f16 on {level}");

            let mut values = vec![vec![bf16::from_f32(0.5); n]; 257];
            values[0] = vec![bf16::from_f32(256.0); n];
            let mut got = vec![bf16::ZERO; n];
            let dst = got.as_mut_ptr();
            // SAFETY: all tensors have n elements.
            unsafe { avg.fold(n, 257, |k| values[k].as_ptr(), 1, |_| dst) };
            assert_eq!(got, vec![bf16::from_f32(384.0 / 257.0); n], "bf16 on {level}");
        }
    }
}

#[test]
fn zeros_and_nans_are_ordered() {
    for level in Level::ALL {
        let (Some(min), Some(max)) = (
            Kernel::<f64>::at_level(Op::Min, level).unwrap(),
            Kernel::<f64>::at_level(Op::Max, level).unwrap(),
        ) else {
            continue;
        };
        for (x, y) in [(0.0, -0.0), (-0.0, 0.0), (f64::NAN, 1.0), (1.0, f64::NAN), (f64::NAN, f64::INFINITY)]
        {
            let (a, b, mut low, mut high) = ([x; 11], [y; 11], [7.0f64; 11], [7.0f64; 11]);
            // SAFETY: all tensors have 11 elements.
            unsafe {
                min.pair(low.as_mut_ptr(), a.as_ptr(), b.as_ptr(), 11);
                max.pair(high.as_mut_ptr(), a.as_ptr(), b.as_ptr(), 11);
            }
            if x == y {
                assert!(
                    low.iter().all(|v| v.to_bits() == (-0.0f64).to_bits()),
                    "{level}: min({x}, {y}) is {low:?}"
                );
                assert!(high.iter().all(|v| v.to_bits() == 0), "{level}: max({x}, {y}) is {high:?}");
            } else {
                assert!(
                    low.iter().chain(&high).all(|v| v.is_nan()),
                    "{level}: {low:?} and {high:?} of {x} and {y}"
                );
            }
        }
    }
}

fn check_refused<T: Element>() {
    for op in Op::ALL {
        assert_eq!(Kernel::<T>::new(op).is_err(), T::naive_refuses(op), "{op} of {}", T::DTYPE);
        for level in Level::ALL {
            assert_eq!(Kernel::<T>::at_level(op, level).is_err(), T::naive_refuses(op));
        }
        if let Err(error) = Kernel::<T>::new(op) {
            assert_eq!((error.dtype, error.op), (T::DTYPE, op));
            let text = error.to_string();
            assert!(text.contains(op.name()) && text.contains(T::DTYPE.name()), "{text}");
        }
    }
}

#[test]
fn average_of_integers_and_bits_of_floats_are_refused() {
    each_dtype!(check_refused);
    let error = Kernel::<f16>::new(Op::Xor).unwrap_err();
    assert_eq!(error.to_string(), "the operation xor is refused for f16: bit operations are for integers");
}

#[test]
fn codes_and_names_come_back() {
    for code in 0..=u8::MAX {
        let dtype = Dtype::from_code(code);
        assert_eq!(dtype.is_some(), (1..=12).contains(&code));
        assert!(dtype.is_none_or(|d| d.code() == code && d.to_string() == d.name()));
        let op = Op::from_code(code);
        assert_eq!(op.is_some(), (1..=8).contains(&code));
        assert!(op.is_none_or(|o| o.code() == code && o.to_string() == o.name()));
    }
    let names: std::collections::HashSet<_> = Dtype::ALL.iter().map(|d| d.name()).collect();
    assert_eq!(names.len(), Dtype::ALL.len());
    let sizes: usize = Dtype::ALL.iter().map(|d| d.size()).sum();
    assert_eq!(sizes, 2 * (1 + 2 + 4 + 8) + 2 + 2 + 4 + 8);
}

#[test]
fn the_level_is_what_the_cpu_has() {
    let level = Level::detect();
    assert_eq!(Level::detect(), level);
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c");
        let wide = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        let want = match (avx2, wide) {
            (true, true) => Level::Avx512,
            (true, false) => Level::Avx2,
            _ => Level::Portable,
        };
        assert_eq!(level, want);
    }
}

fn random_fold<T: Naive>(seed: u64, n: usize, sources: usize, dests: usize, op: Op) {
    let mut random = Random(seed | 1);
    let inputs: Vec<Vec<T>> = (0..sources).map(|_| random.elements(n)).collect();
    // Any sources, each at most once, or tensors of their own.
    let first = random.next() as usize % sources;
    let shape: Vec<usize> = (0..dests)
        .map(|d| if d < sources && random.next().is_multiple_of(2) { (first + d) % sources } else { OWN + d })
        .collect();
    for level in Level::ALL {
        if let Ok(Some(kernel)) = Kernel::<T>::at_level(op, level) {
            fold_case(level, kernel, &inputs, &shape, &mut random);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 512 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_fold(
        seed: u64,
        n in prop_oneof![0usize..40, 0usize..700, 3000usize..3500],
        sources in 1usize..12,
        dests in 0usize..5,
        op in proptest::sample::select(&Op::ALL[..]),
        dtype in proptest::sample::select(&Dtype::ALL[..]),
    ) {
        match dtype {
            Dtype::I8 => random_fold::<i8>(seed, n, sources, dests, op),
            Dtype::I16 => random_fold::<i16>(seed, n, sources, dests, op),
            Dtype::I32 => random_fold::<i32>(seed, n, sources, dests, op),
            Dtype::I64 => random_fold::<i64>(seed, n, sources, dests, op),
            Dtype::U8 => random_fold::<u8>(seed, n, sources, dests, op),
            Dtype::U16 => random_fold::<u16>(seed, n, sources, dests, op),
            Dtype::U32 => random_fold::<u32>(seed, n, sources, dests, op),
            Dtype::U64 => random_fold::<u64>(seed, n, sources, dests, op),
            Dtype::F16 => random_fold::<f16>(seed, n, sources, dests, op),
            Dtype::Bf16 => random_fold::<bf16>(seed, n, sources, dests, op),
            Dtype::F32 => random_fold::<f32>(seed, n, sources, dests, op),
            Dtype::F64 => random_fold::<f64>(seed, n, sources, dests, op),
        }
    }
}
