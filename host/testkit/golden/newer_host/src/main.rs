//! A host of the next minor of the interface: loads the plugin that its argument names, calls what the older
//! interface has and what only the newer one has, and prints the answers.

use std::error::Error;

use etl_plugin_api::abi::{LibHeader, ROOT_SYMBOL, open_plugin};
use etl_plugin_api::prelude::*;
use etl_plugin_api::{AttemptInfo, ErrorKind};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

struct Services(AttemptInfo);

impl Context for Services {
    fn attempt(&self) -> &AttemptInfo {
        &self.0
    }

    fn secret(&self, _: &str) -> Result<String> {
        Err(StageError::new(ErrorKind::Config, "not granted"))
    }

    fn cancelled(&self) -> bool {
        false
    }

    fn log(&self, _: Level, message: &str) {
        println!("log: {message}");
    }

    fn count(&self, name: &str, n: u64) {
        println!("count: {name} {n}");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args_os().nth(1).ok_or("name a plugin file")?;
    // SAFETY: a golden plugin, which does nothing when it is loaded.
    let library = unsafe { Library::open(Some(file), RTLD_NOW | RTLD_LOCAL)? };
    // SAFETY: the symbol is exported by the interface's macro alone.
    let header: &'static LibHeader =
        unsafe { *library.get::<&'static LibHeader>(ROOT_SYMBOL.as_bytes())? };
    std::mem::forget(library);
    let plugin = open_plugin(header).map_err(|mismatch| format!("refused: {mismatch:?}"))?;
    let manifests = &plugin.description().pipelines;
    println!("generation: {:?}", plugin.generation());
    let services = Services(AttemptInfo::default());
    for (index, manifest) in (0..).zip(manifests) {
        let pipeline = plugin.pipeline(index)?;
        println!("{}: maker: {}", manifest.name, pipeline.maker());
        let partitions = pipeline.partitions("{}", &services)?;
        let names = partitions.iter().flatten().map(|one| one.name.as_str());
        println!(
            "{}: partitions: {:?}",
            manifest.name,
            names.collect::<Vec<_>>()
        );
    }
    Ok(())
}
