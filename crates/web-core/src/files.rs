//! Files between the page and the engine: a `Blob` of the page's is read in pieces, and what is opened becomes one.

use bulla_client::endpoint::AttachmentWriter;
use bulla_client::media::{MediaError, NewAttachment, is_picture, safe_name, sniff};
use bulla_e2ee::content::MessageId;
use js_sys::{Array, ArrayBuffer, Object, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, BlobPropertyBag};

use crate::device::Device;
use crate::idb::words;
use crate::shapes::{self, FileMoved, NewFile, Refused, to_js};

/// Bytes read at once.
const PIECE: f64 = 256.0 * 1024.0;

/// A file that was opened, as the page gets it: the file itself, whose type is what its bytes are (none where they do not say); a name under
/// which it may be saved; whether it is a picture that may be shown.
fn opened(blob: &Blob, name: &str, picture: bool) -> Result<JsValue, JsValue> {
    let file = Object::new();
    Reflect::set(&file, &"blob".into(), blob)?;
    Reflect::set(&file, &"name".into(), &name.into())?;
    Reflect::set(&file, &"picture".into(), &picture.into())?;
    Ok(file.into())
}

#[wasm_bindgen]
impl Device {
    /// Attaches a file; it is uploaded from now on, whatever happens, once this returns.
    pub async fn attach(&self, file: Blob, new: JsValue) -> Result<JsValue, JsValue> {
        let new: NewFile = serde_wasm_bindgen::from_value(new)?;
        let new = NewAttachment { size: file.size().max(0.0) as u64, ..new.try_into()? };
        let mut writer = self.endpoint().attach(self.current()?, new).await.map_err(Refused::from)?;
        fill(&mut writer, &file).await?;
        let upload = writer.finish().await.map_err(Refused::from)?;
        to_js(&shapes::Upload::from(upload))
    }

    /// Files that wait to be uploaded, oldest first.
    pub async fn uploads(&self) -> Result<JsValue, JsValue> {
        let all = self.endpoint().uploads(self.current()?).await.map_err(Refused::from)?;
        to_js(&all.into_iter().map(shapes::Upload::from).collect::<Vec<_>>())
    }

    /// Gives an upload up.
    #[wasm_bindgen(js_name = cancelUpload)]
    pub async fn cancel_upload(&self, id: String) -> Result<(), JsValue> {
        Ok(self.endpoint().cancel_upload(shapes::upload_from_text(&id)?).await.map_err(Refused::from)?)
    }

    /// Tries an upload again that did not go on.
    #[wasm_bindgen(js_name = retryUpload)]
    pub async fn retry_upload(&self, id: String) -> Result<(), JsValue> {
        Ok(self.endpoint().retry_upload(shapes::upload_from_text(&id)?).await.map_err(Refused::from)?)
    }

    /// Whether the file of a message is here, so that opening it fetches nothing.
    #[wasm_bindgen(js_name = isHere)]
    pub async fn is_here(&self, id: String) -> Result<bool, JsValue> {
        Ok(self.endpoint().is_here(shapes::id_from_text(&id)?).await.map_err(Refused::from)?)
    }

    /// Opens the file of a message, and fetches it if it is not here. How far it is, events tell.
    #[wasm_bindgen(js_name = openFile)]
    pub async fn open_file(&self, id: String) -> Result<JsValue, JsValue> {
        let message = shapes::id_from_text(&id)?;
        let stopped = self.begins(message);
        let opened = self.collect(&id, message, &stopped).await;
        self.ended(&message);
        opened
    }

    /// Stops opening a file. What came of it stays, and the next time goes on from there.
    #[wasm_bindgen(js_name = stopFile)]
    pub fn stop_file(&self, id: String) -> Result<(), JsValue> {
        self.stops(&shapes::id_from_text(&id)?);
        Ok(())
    }
}

impl Device {
    async fn collect(&self, id: &str, message: MessageId, stopped: &std::cell::Cell<bool>) -> Result<JsValue, JsValue> {
        let mut reader = self.endpoint().open(message).await.map_err(Refused::from)?;
        let (pieces, mut head) = (Array::new(), Vec::new());
        while let Some(piece) = reader.next().await.map_err(Refused::from)? {
            if stopped.get() {
                return Err(Refused::from(MediaError::Stopped).into());
            }
            if head.is_empty() {
                head = piece.iter().copied().take(512).collect();
            }
            pieces.push(&Uint8Array::from(piece.as_slice()));
            self.tell(&to_js(&FileMoved::new(id, reader.came(), reader.card().size))?);
        }
        let found = sniff(&head).map(|(media_type, _)| media_type);
        let options = BlobPropertyBag::new();
        options.set_type(found.unwrap_or(""));
        let blob = Blob::new_with_u8_array_sequence_and_blob_property_bag(&pieces, &options)?;
        opened(&blob, &safe_name(&reader.card().name, &head), found.is_some_and(is_picture))
    }
}

async fn fill(writer: &mut AttachmentWriter, file: &Blob) -> Result<(), JsValue> {
    let mut from = 0.0;
    while from < file.size() {
        let to = (from + PIECE).min(file.size());
        let piece = file.slice_with_f64_and_f64(from, to)?;
        // A file that was changed or removed since it was chosen cannot be read any more.
        let unreadable = |e: JsValue| Refused { code: "file", message: words(&e) };
        let buffer = JsFuture::from(piece.array_buffer()).await.map_err(unreadable)?;
        let bytes = Uint8Array::new(&buffer.unchecked_into::<ArrayBuffer>()).to_vec();
        writer.write(bytes).await.map_err(Refused::from)?;
        from = to;
    }
    Ok(())
}
