//! The trait objects that cross, and the wrappers that give them out.
//!
//! Each wrapper is an author's stage (or the host's services) seen from the other side: it turns boundary forms into
//! Rust values, calls, and turns the answer back. Every call is guarded; none may panic outwards.
#![allow(
    non_local_definitions,
    unsafe_code,
    missing_docs,
    unused_qualifications,
    clippy::used_underscore_binding,
    reason = "code that #[sabi_trait] makes"
)]

use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RBox, ROption, RStr, RString, RVec};
use abi_stable::{StableAbi, sabi_trait};

use super::arrow::{AbiBatch, AbiSchema, export_batch, export_schema, import_batch, import_schema};
use super::foreign::ForeignHost;
use super::{AbiResult, from_json, guarded, to_json};
use crate::context::{BatchReader, Context, ExtractContext, Level, LoadContext, Value};
use crate::error::{Result, StageError};
use crate::export::{Contained, DynPipeline, Guarded};
use crate::pipeline::{
    Extracted, Extractor, Loaded, Loader, Origin, Outcome, Output, TableSchema, Transformed,
    Transformer,
};

/// A pipeline, as it crosses.
pub type PipelineObject = PipelineAbi_TO<'static, RBox<()>>;
pub type ExtractorObject = ExtractorAbi_TO<'static, RBox<()>>;
pub type TransformerObject = TransformerAbi_TO<'static, RBox<()>>;
pub type LoaderObject = LoaderAbi_TO<'static, RBox<()>>;
pub type ReaderObject<'a> = ReaderAbi_TO<'a, RBox<()>>;
/// The host's services, lent for one call.
pub type HostRef<'a> = HostAbi_TO<'a, abi_stable::sabi_types::RRef<'a, ()>>;

#[sabi_trait]
pub trait PipelineAbi: Send + Sync {
    fn validate(&self, settings: RStr<'_>) -> AbiResult<RString>;
    fn partitions(&self, settings: RStr<'_>, host: HostRef<'_>) -> AbiResult<RString>;
    fn extractor(&self, settings: RStr<'_>) -> AbiResult<ROption<ExtractorObject>>;
    fn transformer(&self, settings: RStr<'_>) -> AbiResult<ROption<TransformerObject>>;
    #[sabi(last_prefix_field)]
    fn loader(&self, settings: RStr<'_>) -> AbiResult<ROption<LoaderObject>>;
}

#[sabi_trait]
pub trait ExtractorAbi: Send {
    fn open(&mut self, host: HostRef<'_>) -> AbiResult<AbiSchema>;
    fn next(&mut self, host: HostRef<'_>) -> AbiResult<ROption<AbiExtracted>>;
    #[sabi(last_prefix_field)]
    fn close(&mut self, outcome: u32) -> AbiResult<()>;
}

#[sabi_trait]
pub trait TransformerAbi: Send {
    fn open(&mut self, host: HostRef<'_>, input: AbiSchema) -> AbiResult<RVec<AbiTable>>;
    fn transform(&mut self, host: HostRef<'_>, input: AbiBatch) -> AbiResult<AbiTransformed>;
    fn finish(&mut self, host: HostRef<'_>) -> AbiResult<AbiTransformed>;
    #[sabi(last_prefix_field)]
    fn close(&mut self, outcome: u32) -> AbiResult<()>;
}

#[sabi_trait]
pub trait LoaderAbi: Send {
    fn open(&mut self, host: HostRef<'_>, tables: RVec<AbiTable>) -> AbiResult<RString>;
    fn load(&mut self, host: HostRef<'_>, output: AbiOutput) -> AbiResult<RString>;
    fn commit(&mut self, host: HostRef<'_>, token: RStr<'_>) -> AbiResult<()>;
    #[sabi(last_prefix_field)]
    fn close(&mut self, outcome: u32) -> AbiResult<()>;
}

#[sabi_trait]
pub trait ReaderAbi {
    fn schema(&self) -> AbiResult<AbiSchema>;
    #[sabi(last_prefix_field)]
    fn next(&mut self) -> AbiResult<ROption<AbiBatch>>;
}

#[sabi_trait]
pub trait HostAbi {
    fn attempt(&self) -> AbiResult<RString>;
    fn secret(&self, name: RStr<'_>) -> AbiResult<RString>;
    fn cancelled(&self) -> bool;
    fn log(&self, level: u32, message: RStr<'_>);
    fn count(&self, name: RStr<'_>, n: u64);
    fn query<'a>(&'a self, sql: RStr<'_>, parameters: RStr<'_>) -> AbiResult<ReaderObject<'a>>;
    #[sabi(last_prefix_field)]
    fn write(&self, output: AbiOutput) -> AbiResult<RString>;
}

#[repr(C)]
#[derive(StableAbi)]
pub struct AbiExtracted {
    batch: AbiBatch,
    /// JSON of a [`Resume`].
    resume: RString,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct AbiTable {
    name: ROption<RString>,
    schema: AbiSchema,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct AbiOutput {
    table: u32,
    /// 0 same rows, 1 `rows`, 2 aggregated.
    origin: u32,
    rows: RVec<u32>,
    batch: AbiBatch,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct AbiTransformed {
    outputs: RVec<AbiOutput>,
    filtered: RVec<u32>,
    /// JSON of the rejections; empty for none.
    rejected: RString,
}

pub fn export_extracted(extracted: Extracted) -> Result<AbiExtracted> {
    Ok(AbiExtracted {
        batch: export_batch(extracted.batch)?,
        resume: to_json(&extracted.resume)?,
    })
}

pub fn import_extracted(extracted: AbiExtracted) -> Result<Extracted> {
    Ok(Extracted {
        batch: import_batch(extracted.batch)?,
        resume: from_json(&extracted.resume)?,
    })
}

pub fn export_tables(tables: &[TableSchema]) -> Result<RVec<AbiTable>> {
    tables
        .iter()
        .map(|table| {
            Ok(AbiTable {
                name: table.name.clone().map(RString::from).into(),
                schema: export_schema(&table.schema)?,
            })
        })
        .collect()
}

pub fn import_tables(tables: RVec<AbiTable>) -> Result<Vec<TableSchema>> {
    tables
        .into_iter()
        .map(|table| {
            Ok(TableSchema {
                name: table.name.into_option().map(RString::into_string),
                schema: import_schema(table.schema)?,
            })
        })
        .collect()
}

pub fn export_output(output: Output) -> Result<AbiOutput> {
    let (origin, rows) = match output.origin {
        Origin::SameRows => (0, Vec::new()),
        Origin::Rows(rows) => (1, rows),
        Origin::Aggregated => (2, Vec::new()),
    };
    Ok(AbiOutput {
        table: output.table,
        origin,
        rows: rows.into(),
        batch: export_batch(output.batch)?,
    })
}

pub fn import_output(output: AbiOutput) -> Result<Output> {
    let origin = match output.origin {
        0 => Origin::SameRows,
        1 => Origin::Rows(output.rows.into()),
        2 => Origin::Aggregated,
        other => {
            return Err(StageError::fatal(format!(
                "origin {other} is unknown to this side of the boundary"
            )));
        }
    };
    Ok(Output {
        table: output.table,
        batch: import_batch(output.batch)?,
        origin,
    })
}

fn export_transformed(transformed: Transformed) -> Result<AbiTransformed> {
    let outputs: Result<RVec<_>> = transformed.outputs.into_iter().map(export_output).collect();
    Ok(AbiTransformed {
        outputs: outputs?,
        filtered: transformed.filtered.into(),
        rejected: if transformed.rejected.is_empty() {
            RString::new()
        } else {
            to_json(&transformed.rejected)?
        },
    })
}

pub fn import_transformed(transformed: AbiTransformed) -> Result<Transformed> {
    let outputs: Result<Vec<_>> = transformed.outputs.into_iter().map(import_output).collect();
    Ok(Transformed {
        outputs: outputs?,
        filtered: transformed.filtered.into(),
        rejected: if transformed.rejected.is_empty() {
            Vec::new()
        } else {
            from_json(&transformed.rejected)?
        },
    })
}

pub fn export_outcome(outcome: Outcome) -> u32 {
    match outcome {
        Outcome::Succeeded => 0,
        Outcome::Failed => 1,
        Outcome::Cancelled => 2,
    }
}

fn import_outcome(outcome: u32) -> Outcome {
    match outcome {
        0 => Outcome::Succeeded,
        2 => Outcome::Cancelled,
        _ => Outcome::Failed,
    }
}

pub fn export_level(level: Level) -> u32 {
    match level {
        Level::Error => 0,
        Level::Warn => 1,
        Level::Info => 2,
        Level::Debug => 3,
    }
}

fn import_level(level: u32) -> Level {
    match level {
        0 => Level::Error,
        1 => Level::Warn,
        2 => Level::Info,
        _ => Level::Debug,
    }
}

/// Gives a pipeline out.
pub fn export_pipeline(pipeline: Box<dyn DynPipeline>) -> PipelineObject {
    PipelineAbi_TO::from_value(ExportedPipeline(Contained::new(pipeline)), TD_Opaque)
}

struct ExportedPipeline(Contained<Box<dyn DynPipeline>>);

impl PipelineAbi for ExportedPipeline {
    fn validate(&self, settings: RStr<'_>) -> AbiResult<RString> {
        guarded(|| to_json(&self.0.get()?.validate(settings.as_str())?))
    }

    fn partitions(&self, settings: RStr<'_>, host: HostRef<'_>) -> AbiResult<RString> {
        guarded(|| {
            let host = ForeignHost::opening(host)?;
            to_json(&self.0.get()?.partitions(settings.as_str(), &host)?)
        })
    }

    fn extractor(&self, settings: RStr<'_>) -> AbiResult<ROption<ExtractorObject>> {
        guarded(|| {
            let stage = self.0.get()?.extractor(settings.as_str())?.map(|stage| {
                ExtractorAbi_TO::from_value(ExportedExtractor(Guarded::new(stage)), TD_Opaque)
            });
            Ok(stage.into())
        })
    }

    fn transformer(&self, settings: RStr<'_>) -> AbiResult<ROption<TransformerObject>> {
        guarded(|| {
            let stage = self.0.get()?.transformer(settings.as_str())?.map(|stage| {
                TransformerAbi_TO::from_value(ExportedTransformer(Guarded::new(stage)), TD_Opaque)
            });
            Ok(stage.into())
        })
    }

    fn loader(&self, settings: RStr<'_>) -> AbiResult<ROption<LoaderObject>> {
        guarded(|| {
            let stage = self.0.get()?.loader(settings.as_str())?.map(|stage| {
                LoaderAbi_TO::from_value(ExportedLoader(Guarded::new(stage)), TD_Opaque)
            });
            Ok(stage.into())
        })
    }
}

struct ExportedExtractor(Guarded<Box<dyn Extractor>>);

impl ExtractorAbi for ExportedExtractor {
    fn open(&mut self, host: HostRef<'_>) -> AbiResult<AbiSchema> {
        guarded(|| {
            let host = ForeignHost::opening(host)?;
            export_schema(&*self.0.call(|stage| stage.open(&host))?)
        })
    }

    fn next(&mut self, host: HostRef<'_>) -> AbiResult<ROption<AbiExtracted>> {
        guarded(|| {
            let host = ForeignHost::new(host);
            let extracted = self.0.call(|stage| stage.next(&host))?;
            Ok(extracted.map(export_extracted).transpose()?.into())
        })
    }

    fn close(&mut self, outcome: u32) -> AbiResult<()> {
        guarded(|| self.0.call(|stage| stage.close(import_outcome(outcome))))
    }
}

struct ExportedTransformer(Guarded<Box<dyn Transformer>>);

impl TransformerAbi for ExportedTransformer {
    fn open(&mut self, host: HostRef<'_>, input: AbiSchema) -> AbiResult<RVec<AbiTable>> {
        guarded(|| {
            let host = ForeignHost::opening(host)?;
            let input = import_schema(input)?;
            export_tables(&self.0.call(|stage| stage.open(&host, &input))?)
        })
    }

    fn transform(&mut self, host: HostRef<'_>, input: AbiBatch) -> AbiResult<AbiTransformed> {
        guarded(|| {
            let host = ForeignHost::new(host);
            let input = import_batch(input)?;
            export_transformed(self.0.call(|stage| stage.transform(&host, input))?)
        })
    }

    fn finish(&mut self, host: HostRef<'_>) -> AbiResult<AbiTransformed> {
        guarded(|| {
            let host = ForeignHost::new(host);
            export_transformed(self.0.call(|stage| stage.finish(&host))?)
        })
    }

    fn close(&mut self, outcome: u32) -> AbiResult<()> {
        guarded(|| self.0.call(|stage| stage.close(import_outcome(outcome))))
    }
}

struct ExportedLoader(Guarded<Box<dyn Loader>>);

impl LoaderAbi for ExportedLoader {
    fn open(&mut self, host: HostRef<'_>, tables: RVec<AbiTable>) -> AbiResult<RString> {
        guarded(|| {
            let host = ForeignHost::opening(host)?;
            let tables = import_tables(tables)?;
            to_json(&self.0.call(|stage| stage.open(&host, &tables))?)
        })
    }

    fn load(&mut self, host: HostRef<'_>, output: AbiOutput) -> AbiResult<RString> {
        guarded(|| {
            let host = ForeignHost::new(host);
            let output = import_output(output)?;
            let loaded: Loaded = self.0.call(|stage| stage.load(&host, &output))?;
            to_json(&loaded)
        })
    }

    fn commit(&mut self, host: HostRef<'_>, token: RStr<'_>) -> AbiResult<()> {
        guarded(|| {
            let host = ForeignHost::new(host);
            let token = from_json(token.as_str())?;
            self.0.call(|stage| stage.commit(&host, &token))
        })
    }

    fn close(&mut self, outcome: u32) -> AbiResult<()> {
        guarded(|| self.0.call(|stage| stage.close(import_outcome(outcome))))
    }
}

/// What the host lends to a call: the services that fit the stage.
pub enum Services<'a> {
    Basic(&'a dyn Context),
    Extract(&'a dyn ExtractContext),
    Load(&'a dyn LoadContext),
}

impl Services<'_> {
    fn context(&self) -> &dyn Context {
        match self {
            Self::Basic(cx) => *cx,
            Self::Extract(cx) => *cx,
            Self::Load(cx) => *cx,
        }
    }
}

impl HostAbi for Services<'_> {
    fn attempt(&self) -> AbiResult<RString> {
        guarded(|| to_json(self.context().attempt()))
    }

    fn secret(&self, name: RStr<'_>) -> AbiResult<RString> {
        guarded(|| Ok(self.context().secret(name.as_str())?.into()))
    }

    fn cancelled(&self) -> bool {
        guarded(|| Ok(self.context().cancelled())).unwrap_or(true)
    }

    fn log(&self, level: u32, message: RStr<'_>) {
        let _ = guarded(|| {
            self.context().log(import_level(level), message.as_str());
            Ok(())
        });
    }

    fn count(&self, name: RStr<'_>, n: u64) {
        let _ = guarded(|| {
            self.context().count(name.as_str(), n);
            Ok(())
        });
    }

    fn query<'a>(&'a self, sql: RStr<'_>, parameters: RStr<'_>) -> AbiResult<ReaderObject<'a>> {
        guarded(|| {
            let Self::Extract(cx) = self else {
                return Err(StageError::fatal("only an extractor may run queries"));
            };
            let parameters: Vec<(String, Value)> = from_json(parameters.as_str())?;
            let borrowed: Vec<(&str, Value)> = parameters
                .iter()
                .map(|(name, value)| (name.as_str(), value.clone()))
                .collect();
            let reader = cx.query(sql.as_str(), &borrowed)?;
            Ok(ReaderAbi_TO::from_value(
                ExportedReader(Contained::new(reader)),
                TD_Opaque,
            ))
        })
    }

    fn write(&self, output: AbiOutput) -> AbiResult<RString> {
        guarded(|| {
            let Self::Load(cx) = self else {
                return Err(StageError::fatal("only a loader may write"));
            };
            to_json(&cx.write(&import_output(output)?)?)
        })
    }
}

struct ExportedReader<'a>(Contained<Box<dyn BatchReader + 'a>>);

impl ReaderAbi for ExportedReader<'_> {
    fn schema(&self) -> AbiResult<AbiSchema> {
        guarded(|| export_schema(&self.0.get()?.schema()))
    }

    fn next(&mut self) -> AbiResult<ROption<AbiBatch>> {
        guarded(|| {
            Ok(self
                .0
                .get_mut()?
                .next()?
                .map(export_batch)
                .transpose()?
                .into())
        })
    }
}
