//! For the next major of the interface: a host of this one must refuse it before it calls anything.

use etl_plugin_api::prelude::*;

struct Copy;

impl Pipeline for Copy {
    type Settings = NoSettings;

    fn manifest(&self) -> Manifest {
        Manifest::new("golden-of-tomorrow", "1.0.0")
    }
}

etl_plugin_api::export_pipelines!(Copy);
