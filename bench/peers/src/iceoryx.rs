//! iceoryx2: publish-subscribe without loss, one service a direction and kind of message, polled.
//!
//! # Safety
//! A loaned sample is memory of a mapped segment. It is taken for initialised bytes without being cleared first: any
//! bits are valid for bytes, and clearing would cost what a loan is there to save.

use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

use crate::flow::messages::{self, Loans, Messages};
use crate::flow::records::{self, BATCH, PopRecords, PushRecords, Record};
use crate::flow::words::{self, Pop, Push};
use crate::flow::{Failure, Said, Spin};
use crate::{Entry, Peer, Place, patiently};

type Service = ipc::Service;

/// Samples that may be under way, of short messages and of long ones.
const SHORT: usize = records::CAPACITY;
const LONG: usize = 4;
const LONGEST: usize = 1 << 20;

/// Ours to send from, and the other end's to receive from.
type Ends<T> = (Publisher<Service, T, ()>, Subscriber<Service, T, ()>);

struct Iceoryx {
    words: Ends<u64>,
    records: Ends<Record>,
    bytes: Ends<[u8]>,
    first: bool,
    _node: Node<Service>,
}

impl Push for Publisher<Service, u64, ()> {
    fn try_push(&mut self, word: u64) -> bool {
        self.send_copy(word).is_ok()
    }
}

impl Pop for Subscriber<Service, u64, ()> {
    fn try_pop(&mut self) -> Option<u64> {
        self.receive().ok().flatten().map(|sample| *sample.payload())
    }
}

/// It has no batches: one call a record.
impl PushRecords for Publisher<Service, Record, ()> {
    fn push(&mut self, records: &[Record]) -> Result<(), Failure> {
        for record in records {
            self.loan_uninit()?.write_payload(*record).send()?;
        }
        Ok(())
    }
}

impl PopRecords for Subscriber<Service, Record, ()> {
    fn pop(&mut self, into: &mut [Record]) -> Result<usize, Failure> {
        let mut count = 0;
        while count < into.len() {
            match self.receive()? {
                Some(sample) => {
                    into[count] = *sample.payload();
                    count += 1;
                }
                None if count > 0 => break,
                None => std::hint::spin_loop(),
            }
        }
        Ok(count)
    }
}

impl Messages for Iceoryx {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        self.bytes.0.loan_slice_uninit(message.len())?.write_from_slice(message).send()?;
        Ok(())
    }

    fn recv(&mut self, message: &mut [u8]) -> Result<(), Failure> {
        self.borrow(message.len(), |sample| message.copy_from_slice(sample))
    }
}

impl Loans for Iceoryx {
    fn lend(&mut self, bytes: usize, write: impl FnOnce(&mut [u8])) -> Result<(), Failure> {
        let sample = self.bytes.0.loan_slice_uninit(bytes)?;
        // SAFETY: bytes of a mapped segment, for which any bits are valid.
        let mut sample = unsafe { sample.assume_init() };
        write(sample.payload_mut());
        sample.send()?;
        Ok(())
    }

    fn borrow(&mut self, bytes: usize, look: impl FnOnce(&[u8])) -> Result<(), Failure> {
        loop {
            if let Some(sample) = self.bytes.1.receive()? {
                if sample.payload().len() != bytes {
                    return Err("a message of another length".into());
                }
                look(sample.payload());
                return Ok(());
            }
            std::hint::spin_loop();
        }
    }
}

impl Peer for Iceoryx {
    fn obey(&mut self, bench: &str, bytes: usize, n: u64) -> Result<Said, Failure> {
        let batch = if bench == "msgrate" { BATCH } else { 1 };
        match (bench, self.first) {
            ("pingpong", first) if bytes == 8 => {
                words::pingpong::<Spin>(first, &mut self.words.0, &mut self.words.1, n)
            }
            ("pingpong", first) => messages::pingpong(first, self, bytes, n),
            ("stream", first) => messages::stream(first, self, bytes, n),
            ("loan", first) => messages::loan(first, self, bytes, n),
            ("msgrate" | "msgrate_unbatched", true) => records::produce(&mut self.records.0, n, batch),
            ("msgrate" | "msgrate_unbatched", false) => records::consume(&mut self.records.1, n, batch),
            (other, _) => Err(format!("no bench {other} on iceoryx2").into()),
        }
    }
}

/// A service of one publisher and one subscriber, in which nothing is lost.
macro_rules! service {
    ($node:expr, $name:expr, $payload:ty, $deep:expr) => {
        $node
            .service_builder(&$name.as_str().try_into()?)
            .publish_subscribe::<$payload>()
            .max_publishers(1)
            .max_subscribers(1)
            .history_size(0)
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size($deep)
            .subscriber_max_borrowed_samples(2)
            .open_or_create()
    };
}

/// Both directions: what we publish under our rank, and what the other rank does.
macro_rules! pair {
    ($node:expr, $what:literal, $place:expr, $meeting:expr, $payload:ty, $deep:expr, $more:expr) => {{
        let name = |rank: usize| format!("{}/{}/{rank}", $meeting, $what);
        let (mine, theirs) = (name($place.rank), name(1 - $place.rank));
        let to = service!($node, mine, $payload, $deep)?;
        let from = service!($node, theirs, $payload, $deep)?;
        let publisher = to.publisher_builder();
        let publisher = publisher.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered);
        let more = $more;
        let publisher = more(publisher.max_loaned_samples(2)).create()?;
        let subscriber = from.subscriber_builder().buffer_size($deep).create()?;
        // What is sent before the other subscribes is lost.
        patiently(|| {
            let both = to.dynamic_config().number_of_subscribers() == 1
                && from.dynamic_config().number_of_publishers() == 1;
            both.then_some(())
        })?;
        (publisher, subscriber)
    }};
}

fn join(place: &Place<'_>) -> Result<Box<dyn Peer>, Failure> {
    set_log_level(LogLevel::Error);
    let meeting = place.directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let node = NodeBuilder::new().create::<Service>()?;
    let words = pair!(node, "words", place, meeting, u64, SHORT, |p| p);
    let records = pair!(node, "records", place, meeting, Record, SHORT, |p| p);
    let bytes = pair!(node, "bytes", place, meeting, [u8], LONG, longest);
    Ok(Box::new(Iceoryx { words, records, bytes, first: place.rank == 0, _node: node }))
}

type Builder<'a> = iceoryx2::service::port_factory::publisher::PortFactoryPublisher<'a, Service, [u8], ()>;

/// Room for the longest message.
fn longest(publisher: Builder<'_>) -> Builder<'_> {
    publisher.initial_max_slice_len(LONGEST)
}

pub(crate) fn entry() -> Entry {
    let orders = "pingpong,msgrate,msgrate_unbatched,stream,loan";
    Entry { kind: "iceoryx2", package: Some("iceoryx2"), threads: false, orders, join }
}
