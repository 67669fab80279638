//! The layout check on a small interface and what may become of it. That a real plugin of another minor then also runs
//! is shown by the golden plugins.
#![allow(
    non_local_definitions,
    unsafe_code,
    dead_code,
    clippy::cast_ptr_alignment,
    unused_qualifications,
    clippy::used_underscore_binding,
    reason = "code that #[sabi_trait] makes, of which only the layout is looked at"
)]

use abi_stable::StableAbi;
use abi_stable::type_layout::TypeLayout;

use super::check_layouts;

/// An interface with these methods: those of the first minor, and those appended.
macro_rules! interface {
    ($name:ident { $($first:item)* }) => {
        mod $name {
            use abi_stable::sabi_types::RRef;
            use abi_stable::std_types::{RBox, RString};
            use abi_stable::{StableAbi, sabi_trait};

            #[sabi_trait]
            pub trait Host {
                $($first)*
            }

            #[sabi_trait]
            pub trait Stage {
                #[sabi(last_prefix_field)]
                fn open(&self, host: Host_TO<'_, RRef<'_, ()>>) -> RString;
            }

            #[repr(C)]
            #[derive(StableAbi)]
            #[sabi(kind(Prefix(prefix_ref = Root)))]
            pub struct RootFields {
                #[sabi(last_prefix_field)]
                pub stage: extern "C" fn() -> Stage_TO<'static, RBox<()>>,
            }
        }
    };
}

interface!(first {
    fn log(&self, text: RString);
    #[sabi(last_prefix_field)]
    fn count(&self, n: u64);
});
interface!(second {
    fn log(&self, text: RString);
    #[sabi(last_prefix_field)]
    fn count(&self, n: u64);
    fn name(&self) -> RString {
        RString::new()
    }
});
interface!(in_the_middle {
    fn log(&self, text: RString);
    fn name(&self) -> RString;
    #[sabi(last_prefix_field)]
    fn count(&self, n: u64);
});
interface!(another_parameter {
    fn log(&self, text: RString);
    #[sabi(last_prefix_field)]
    fn count(&self, n: u32);
});
interface!(another_method {
    fn log(&self, text: RString);
    #[sabi(last_prefix_field)]
    fn count(&self, n: u64);
    fn mood(&self) -> RString {
        RString::new()
    }
});

const FIRST: &TypeLayout = <first::Root as StableAbi>::LAYOUT;
const SECOND: &TypeLayout = <second::Root as StableAbi>::LAYOUT;

#[test]
fn two_minors_go_together_whichever_is_the_hosts() {
    assert_eq!(check_layouts(FIRST, FIRST), Ok(()));
    assert_eq!(check_layouts(FIRST, SECOND), Ok(()));
    assert_eq!(check_layouts(SECOND, FIRST), Ok(()));
}

#[test]
fn what_no_minor_may_do_is_found() {
    for broken in [
        <in_the_middle::Root as StableAbi>::LAYOUT,
        <another_parameter::Root as StableAbi>::LAYOUT,
    ] {
        assert!(check_layouts(FIRST, broken).is_err());
        assert!(check_layouts(broken, FIRST).is_err());
    }
    // The first minor knows of neither, but they are not the same method.
    let other = <another_method::Root as StableAbi>::LAYOUT;
    assert_eq!(check_layouts(FIRST, other), Ok(()));
    assert!(check_layouts(SECOND, other).is_err());
}
