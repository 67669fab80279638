//! What lies on the other side, as ordinary Rust values: a plugin's stages for the host, the host's services for a
//! plugin.
//!
//! The host's wrappers also guard against a plugin that panics in spite of its own guard, and refuse to call a stage
//! that failed.

use std::cell::OnceCell;

use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::sabi_types::RRef;
use abi_stable::std_types::{RStr, RString};
use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};

use super::arrow::{export_batch, export_schema, import_batch, import_schema};
use super::object::{
    ExtractorObject, HostAbi_TO, HostRef, LoaderObject, PipelineObject, ReaderObject, Services,
    TransformerObject, export_level, export_outcome, export_output, export_tables,
    import_extracted, import_tables, import_transformed,
};
use super::{from_json, returned, to_json};
use crate::context::{
    AttemptInfo, BatchReader, Context, ExtractContext, Level, LoadContext, Value,
};
use crate::error::Result;
use crate::export::{Guarded, guard};
use crate::manifest::Problem;
use crate::pipeline::{
    CommitToken, Extracted, Extractor, Loaded, Loader, Outcome, Output, Partition, TableSchema,
    Transformed, Transformer,
};

/// Lends the host's services to one call.
fn lend<T>(services: &Services<'_>, call: impl FnOnce(HostRef<'_>) -> T) -> T {
    call(HostAbi_TO::from_ptr(RRef::new(services), TD_Opaque))
}

/// A plugin's pipeline, seen from the host.
pub struct ForeignPipeline(PipelineObject);

impl ForeignPipeline {
    pub(super) fn new(object: PipelineObject) -> Self {
        Self(object)
    }

    /// Every mistake in the settings (JSON).
    pub fn validate(&self, settings: &str) -> Result<Vec<Problem>> {
        guard(|| from_json(&returned(self.0.validate(RStr::from_str(settings)))?))
    }

    /// The pipeline's own partitions, `None` for one per shard.
    pub fn partitions(&self, settings: &str, cx: &dyn Context) -> Result<Option<Vec<Partition>>> {
        guard(|| {
            let json = lend(&Services::Basic(cx), |host| {
                self.0.partitions(RStr::from_str(settings), host)
            });
            from_json(&returned(json)?)
        })
    }

    /// A new extractor, `None` for the host's own.
    pub fn extractor(&self, settings: &str) -> Result<Option<Box<dyn Extractor>>> {
        let stage = guard(|| returned(self.0.extractor(RStr::from_str(settings))))?;
        Ok(stage
            .into_option()
            .map(|stage| Box::new(ForeignExtractor(Guarded::new(stage))) as Box<dyn Extractor>))
    }

    /// A new transformer, `None` to load rows as they were read.
    pub fn transformer(&self, settings: &str) -> Result<Option<Box<dyn Transformer>>> {
        let stage = guard(|| returned(self.0.transformer(RStr::from_str(settings))))?;
        Ok(stage
            .into_option()
            .map(|stage| Box::new(ForeignTransformer(Guarded::new(stage))) as Box<dyn Transformer>))
    }

    /// A new loader, `None` for the configured sink.
    pub fn loader(&self, settings: &str) -> Result<Option<Box<dyn Loader>>> {
        let stage = guard(|| returned(self.0.loader(RStr::from_str(settings))))?;
        Ok(stage
            .into_option()
            .map(|stage| Box::new(ForeignLoader(Guarded::new(stage))) as Box<dyn Loader>))
    }
}

struct ForeignExtractor(Guarded<ExtractorObject>);

impl Extractor for ForeignExtractor {
    fn open(&mut self, cx: &dyn ExtractContext) -> Result<SchemaRef> {
        self.0.call(|stage| {
            let schema = lend(&Services::Extract(cx), |host| stage.open(host));
            import_schema(returned(schema)?)
        })
    }

    fn next(&mut self, cx: &dyn ExtractContext) -> Result<Option<Extracted>> {
        self.0.call(|stage| {
            let extracted = lend(&Services::Extract(cx), |host| stage.next(host));
            returned(extracted)?
                .into_option()
                .map(import_extracted)
                .transpose()
        })
    }

    fn close(&mut self, outcome: Outcome) -> Result<()> {
        self.0
            .call(|stage| returned(stage.close(export_outcome(outcome))))
    }
}

struct ForeignTransformer(Guarded<TransformerObject>);

impl Transformer for ForeignTransformer {
    fn open(&mut self, cx: &dyn Context, input: &Schema) -> Result<Vec<TableSchema>> {
        self.0.call(|stage| {
            let input = export_schema(input)?;
            let tables = lend(&Services::Basic(cx), |host| stage.open(host, input));
            import_tables(returned(tables)?)
        })
    }

    fn transform(&mut self, cx: &dyn Context, input: RecordBatch) -> Result<Transformed> {
        self.0.call(|stage| {
            let input = export_batch(input)?;
            let output = lend(&Services::Basic(cx), |host| stage.transform(host, input));
            import_transformed(returned(output)?)
        })
    }

    fn finish(&mut self, cx: &dyn Context) -> Result<Transformed> {
        self.0.call(|stage| {
            let output = lend(&Services::Basic(cx), |host| stage.finish(host));
            import_transformed(returned(output)?)
        })
    }

    fn close(&mut self, outcome: Outcome) -> Result<()> {
        self.0
            .call(|stage| returned(stage.close(export_outcome(outcome))))
    }
}

struct ForeignLoader(Guarded<LoaderObject>);

impl Loader for ForeignLoader {
    fn open(
        &mut self,
        cx: &dyn LoadContext,
        tables: &[TableSchema],
    ) -> Result<Option<CommitToken>> {
        self.0.call(|stage| {
            let tables = export_tables(tables)?;
            let token = lend(&Services::Load(cx), |host| stage.open(host, tables));
            from_json(&returned(token)?)
        })
    }

    fn load(&mut self, cx: &dyn LoadContext, output: &Output) -> Result<Loaded> {
        self.0.call(|stage| {
            let output = export_output(output.clone())?;
            let loaded = lend(&Services::Load(cx), |host| stage.load(host, output));
            from_json(&returned(loaded)?)
        })
    }

    fn commit(&mut self, cx: &dyn LoadContext, token: &CommitToken) -> Result<()> {
        self.0.call(|stage| {
            let token = to_json(token)?;
            returned(lend(&Services::Load(cx), |host| {
                stage.commit(host, token.as_rstr())
            }))
        })
    }

    fn close(&mut self, outcome: Outcome) -> Result<()> {
        self.0
            .call(|stage| returned(stage.close(export_outcome(outcome))))
    }
}

/// The host's services, seen from a plugin.
pub struct ForeignHost<'a> {
    host: HostRef<'a>,
    // Asked for once and only if needed: it is text, and there is a call per batch.
    attempt: OnceCell<AttemptInfo>,
}

impl<'a> ForeignHost<'a> {
    pub fn new(host: HostRef<'a>) -> Self {
        Self {
            host,
            attempt: OnceCell::new(),
        }
    }

    /// As `new`, for the call that opens a stage, with the facts read at once. [`Context::attempt`] cannot fail: if a
    /// newer host knows a position that this side does not, a stage would not see it and read everything again.
    pub fn opening(host: HostRef<'a>) -> Result<Self> {
        let attempt: AttemptInfo = from_json(&returned(host.attempt())?)?;
        Ok(Self {
            host,
            attempt: OnceCell::from(attempt),
        })
    }
}

impl Context for ForeignHost<'_> {
    fn attempt(&self) -> &AttemptInfo {
        self.attempt.get_or_init(|| {
            returned(self.host.attempt())
                .and_then(|json| from_json(&json))
                .unwrap_or_default()
        })
    }

    fn secret(&self, name: &str) -> Result<String> {
        returned(self.host.secret(RStr::from_str(name))).map(RString::into_string)
    }

    fn cancelled(&self) -> bool {
        self.host.cancelled()
    }

    fn log(&self, level: Level, message: &str) {
        self.host.log(export_level(level), RStr::from_str(message));
    }

    fn count(&self, name: &str, n: u64) {
        self.host.count(RStr::from_str(name), n);
    }
}

impl ExtractContext for ForeignHost<'_> {
    fn query(&self, sql: &str, params: &[(&str, Value)]) -> Result<Box<dyn BatchReader + '_>> {
        let params = to_json(&params)?;
        let reader = returned(self.host.query(RStr::from_str(sql), params.as_rstr()))?;
        let schema = import_schema(returned(reader.schema())?)?;
        Ok(Box::new(ForeignReader { reader, schema }))
    }
}

impl LoadContext for ForeignHost<'_> {
    fn write(&self, output: &Output) -> Result<Loaded> {
        from_json(&returned(self.host.write(export_output(output.clone())?))?)
    }
}

struct ForeignReader<'a> {
    reader: ReaderObject<'a>,
    schema: SchemaRef,
}

impl BatchReader for ForeignReader<'_> {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn next(&mut self) -> Result<Option<RecordBatch>> {
        returned(self.reader.next())?
            .into_option()
            .map(import_batch)
            .transpose()
    }
}
