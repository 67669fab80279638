//! Record batches as the two structs of the Arrow C Data Interface, in a form whose layout can be checked.
//!
//! The structs mirror `struct ArrowArray` and `struct ArrowSchema` of
//! <https://arrow.apache.org/docs/format/CDataInterface.html>, which is frozen: a plugin built with another major
//! version of the arrow crates still understands them. Whoever holds such a value owns it and releases it.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_void};
use std::mem::{ManuallyDrop, align_of, size_of};
use std::sync::Arc;

use abi_stable::StableAbi;
use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi};
use arrow_array::{Array, RecordBatch, RecordBatchOptions, StructArray};
use arrow_schema::{DataType, Schema, SchemaRef};

use crate::error::{Result, StageError};

/// Mirror of `struct ArrowArray`.
#[repr(C)]
#[derive(StableAbi)]
pub struct AbiArray {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    #[sabi(unsafe_opaque_field)]
    buffers: *mut *const c_void,
    #[sabi(unsafe_opaque_field)]
    children: *mut *mut AbiArray,
    #[sabi(unsafe_opaque_field)]
    dictionary: *mut AbiArray,
    #[sabi(unsafe_opaque_field)]
    release: Option<unsafe extern "C" fn(*mut AbiArray)>,
    private_data: *mut c_void,
}

/// Mirror of `struct ArrowSchema`.
#[repr(C)]
#[derive(StableAbi)]
pub struct AbiSchema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    #[sabi(unsafe_opaque_field)]
    children: *mut *mut AbiSchema,
    #[sabi(unsafe_opaque_field)]
    dictionary: *mut AbiSchema,
    #[sabi(unsafe_opaque_field)]
    release: Option<unsafe extern "C" fn(*mut AbiSchema)>,
    private_data: *mut c_void,
}

const _: () = assert!(size_of::<AbiArray>() == size_of::<FFI_ArrowArray>());
const _: () = assert!(align_of::<AbiArray>() == align_of::<FFI_ArrowArray>());
const _: () = assert!(size_of::<AbiSchema>() == size_of::<FFI_ArrowSchema>());
const _: () = assert!(align_of::<AbiSchema>() == align_of::<FFI_ArrowSchema>());

// SAFETY: the C Data Interface lets an array be released on any thread, and arrow's own type says the same.
unsafe impl Send for AbiArray {}
// SAFETY: as above.
unsafe impl Send for AbiSchema {}

impl Drop for AbiArray {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: a set `release` means that this struct is live and owned; it clears the field itself.
            unsafe { release(self) }
        }
    }
}

impl Drop for AbiSchema {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: as for `AbiArray`.
            unsafe { release(self) }
        }
    }
}

impl From<FFI_ArrowArray> for AbiArray {
    fn from(array: FFI_ArrowArray) -> Self {
        let array = ManuallyDrop::new(array);
        // SAFETY: both are the C struct `ArrowArray`; the original is not dropped, so ownership moves.
        unsafe { std::ptr::from_ref(&*array).cast::<Self>().read() }
    }
}

impl From<AbiArray> for FFI_ArrowArray {
    fn from(array: AbiArray) -> Self {
        let array = ManuallyDrop::new(array);
        // SAFETY: as above, the other way.
        unsafe { std::ptr::from_ref(&*array).cast::<Self>().read() }
    }
}

impl From<FFI_ArrowSchema> for AbiSchema {
    fn from(schema: FFI_ArrowSchema) -> Self {
        let schema = ManuallyDrop::new(schema);
        // SAFETY: both are the C struct `ArrowSchema`; the original is not dropped, so ownership moves.
        unsafe { std::ptr::from_ref(&*schema).cast::<Self>().read() }
    }
}

impl From<AbiSchema> for FFI_ArrowSchema {
    fn from(schema: AbiSchema) -> Self {
        let schema = ManuallyDrop::new(schema);
        // SAFETY: as above, the other way.
        unsafe { std::ptr::from_ref(&*schema).cast::<Self>().read() }
    }
}

/// Puts a schema into its C form.
pub fn export_schema(schema: &Schema) -> Result<AbiSchema> {
    Ok(FFI_ArrowSchema::try_from(schema)?.into())
}

/// Takes a schema out of its C form.
pub fn import_schema(schema: AbiSchema) -> Result<SchemaRef> {
    if schema.release.is_none() {
        return Err(StageError::fatal(
            "a schema crossed the boundary after it was released",
        ));
    }
    let schema = FFI_ArrowSchema::from(schema);
    Ok(Arc::new(Schema::try_from(&schema)?))
}

/// A record batch as a struct array in its C form, with its schema.
#[repr(C)]
#[derive(StableAbi)]
pub struct AbiBatch {
    array: AbiArray,
    schema: AbiSchema,
}

/// Puts a batch into its C form; the buffers are shared, not copied.
pub fn export_batch(batch: RecordBatch) -> Result<AbiBatch> {
    let schema = export_schema(batch.schema_ref())?;
    let rows = batch.num_rows();
    let array = if batch.num_columns() == 0 {
        StructArray::new_empty_fields(rows, None)
    } else {
        StructArray::from(batch)
    };
    Ok(AbiBatch {
        array: FFI_ArrowArray::new(&array.into_data()).into(),
        schema,
    })
}

/// Takes a batch out of its C form.
pub fn import_batch(batch: AbiBatch) -> Result<RecordBatch> {
    let AbiBatch { array, schema } = batch;
    if array.release.is_none() || schema.release.is_none() {
        return Err(StageError::fatal(
            "a batch crossed the boundary after it was released",
        ));
    }
    if array.n_children != schema.n_children || array.length < 0 {
        return Err(StageError::fatal(format!(
            "a batch crossed the boundary with {} columns where its schema has {}",
            array.n_children, schema.n_children
        )));
    }
    let rows = usize::try_from(array.length).unwrap_or_default();
    let array = FFI_ArrowArray::from(array);
    let ffi_schema = FFI_ArrowSchema::from(schema);
    let schema = Arc::new(Schema::try_from(&ffi_schema)?);
    // SAFETY: both structs are live, were made by an Arrow implementation, and agree on the number of columns.
    let data = unsafe { from_ffi(array, &ffi_schema)? };
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    if !matches!(data.data_type(), DataType::Struct(_)) || data.null_count() > 0 {
        return Err(StageError::fatal(
            "what crossed the boundary is no record batch",
        ));
    }
    let columns = if schema.fields().is_empty() {
        Vec::new()
    } else {
        StructArray::from(data).into_parts().1
    };
    Ok(RecordBatch::try_new_with_options(
        schema, columns, &options,
    )?)
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Int64Array, StringArray};
    use arrow_schema::Field;

    use super::*;

    #[test]
    fn a_batch_survives_with_nulls_slices_and_metadata() {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("name", DataType::Utf8, true),
        ])
        .with_metadata([("origin".to_owned(), "test".to_owned())]);
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
        let names: ArrayRef = Arc::new(
            (0..100)
                .map(|n| (n % 3 != 0).then(|| format!("name {n}")))
                .collect::<StringArray>(),
        );
        let batch = RecordBatch::try_new(Arc::new(schema), vec![ids, names])
            .unwrap()
            .slice(17, 40);
        let back = import_batch(export_batch(batch.clone()).unwrap()).unwrap();
        assert_eq!(back, batch);
    }

    #[test]
    fn a_batch_without_columns_keeps_its_row_count() {
        let options = RecordBatchOptions::new().with_row_count(Some(5));
        let batch =
            RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        let back = import_batch(export_batch(batch).unwrap()).unwrap();
        assert_eq!((back.num_rows(), back.num_columns()), (5, 0));
    }

    #[test]
    fn a_batch_that_is_never_imported_is_released() {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
        let held = Arc::downgrade(&values);
        let batch = RecordBatch::try_from_iter([("v", values)]).unwrap();
        drop(export_batch(batch).unwrap());
        assert!(held.upgrade().is_none());
    }
}
