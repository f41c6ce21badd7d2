//! A value that is frozen and published, by one that dies in the middle of it: whole, or not there.

use sapwood_shm::frozen::{Frozen, OpenError, Published};

use crate::common::{Forget, name};
use crate::sweep::{Death, Stall};

const VALUE: [u64; 4] = [1, 2, 3, u64::MAX];

pub(crate) struct Publish;

impl Death for Publish {
    const NAME: &'static str = "publish a frozen value";
    type World = (String, Forget);
    type Actor = (String, Frozen<[u64; 4]>, Option<Published>);
    fn world() -> Self::World {
        let name = name("frozen");
        let forget = Forget::name(&name);
        (name, forget)
    }
    fn arrive((name, _): &Self::World) -> Self::Actor {
        (name.clone(), Frozen::new(&VALUE).expect("it can be encoded"), None)
    }
    fn act((name, frozen, published): &mut Self::Actor) -> impl Sized {
        *published = frozen.publish(name).ok();
    }
    fn survive((name, _forget): Self::World, _: bool) -> &'static str {
        // Who has published it is dead, so there is nothing; and the name can be had.
        let said = Frozen::<[u64; 4]>::open(&name).expect_err("its process is dead");
        assert!(matches!(said, OpenError::NotPublished { .. }), "{said}");
        let published = Frozen::new(&VALUE).expect("encoded").publish(&name).expect("the name is free");
        let read = Frozen::<[u64; 4]>::open(&name).expect("it is published");
        assert_eq!(read.read(), Ok(VALUE));
        drop(published);
        "the name is free"
    }
}

pub(crate) struct StallPublish;

impl Stall for StallPublish {
    const NAME: &'static str = "publish a frozen value, while others open it";
    type World = (String, Forget, bool);
    type Actor = (String, Frozen<[u64; 4]>);
    type Done = Option<Published>;
    fn world() -> Self::World {
        let name = name("frozen");
        let forget = Forget::name(&name);
        (name, forget, false)
    }
    fn arrive((name, ..): &Self::World) -> Self::Actor {
        (name.clone(), Frozen::new(&VALUE).expect("it can be encoded"))
    }
    fn act((name, frozen): &mut Self::Actor) -> Option<Published> {
        frozen.publish(name).ok()
    }
    fn meanwhile((name, _, read): &mut Self::World, completed: bool) {
        match Frozen::<[u64; 4]>::open(name) {
            Ok(frozen) => {
                assert_eq!(frozen.read(), Ok(VALUE), "whole");
                *read = true;
            }
            Err(e) => assert!(matches!(e, OpenError::NotPublished { .. }) && !completed, "{e}"),
        }
    }
    fn report(_: Self::Actor, done: Option<Published>) -> u8 {
        u8::from(done.is_some())
    }
    fn conclude((_, _, read): Self::World, report: u8) -> &'static str {
        assert_eq!(report, 1, "it was published");
        if read { "others have read it" } else { "not there yet" }
    }
}
