//! A text as a QR code, as SVG or PNG. Drawn here, because black squares need no image library.

use qrcode::{Color, EcLevel, QrCode};

/// Light squares around the code, as ISO/IEC 18004 wants them.
const QUIET: usize = 4;

/// Pixels of a square in a PNG: a code of the usual length is then some 400 wide.
const SCALE: usize = 8;

/// How it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Svg,
    Png,
}

impl Format {
    /// Of `SVG`, `svg` and so on.
    pub(crate) fn of(word: &str) -> Option<Self> {
        [Self::Svg, Self::Png].into_iter().find(|format| format.end().eq_ignore_ascii_case(word))
    }

    /// The end of a file's name.
    pub(crate) fn end(self) -> &'static str {
        match self {
            Self::Svg => "svg",
            Self::Png => "png",
        }
    }

    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Svg => "image/svg+xml",
            Self::Png => "image/png",
        }
    }
}

/// Draws it; `None` if the text is longer than a QR code holds.
pub(crate) fn draw(text: &str, format: Format) -> Option<Vec<u8>> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
    Some(match format {
        Format::Svg => svg(&code).into_bytes(),
        Format::Png => png(&code),
    })
}

/// Whether a square is dark; around the code there is light.
fn is_dark(code: &QrCode, x: usize, y: usize) -> bool {
    let inside = QUIET..QUIET + code.width();
    inside.contains(&x) && inside.contains(&y) && code[(x - QUIET, y - QUIET)] == Color::Dark
}

fn svg(code: &QrCode) -> String {
    let side = code.width() + 2 * QUIET;
    let mut path = String::new();
    for y in 0..side {
        for x in (0..side).filter(|x| is_dark(code, *x, y)) {
            path.push_str(&format!("M{x} {y}h1v1h-1z"));
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\">\
         <path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/><path d=\"{path}\"/></svg>"
    )
}

/// One bit for a pixel, stored without compression: a QR code of 400 pixels takes 20 KB.
fn png(code: &QrCode) -> Vec<u8> {
    let side = (code.width() + 2 * QUIET) * SCALE;
    let mut rows = Vec::new();
    for y in 0..side {
        // No filter.
        rows.push(0);
        for byte in 0..side.div_ceil(8) {
            let is_light = |bit: usize| !is_dark(code, (byte * 8 + bit) / SCALE, y / SCALE);
            rows.push((0..8).fold(0, |bits, bit| (bits << 1) | u8::from(is_light(bit))));
        }
    }
    let side = u32::try_from(side).unwrap_or_default().to_be_bytes();
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    // Greyscale of depth 1.
    chunk(&mut out, b"IHDR", &[&side[..], &side, &[1, 0, 0, 0, 0]].concat());
    chunk(&mut out, b"IDAT", &stored(&rows));
    chunk(&mut out, b"IEND", &[]);
    out
}

fn chunk(out: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    out.extend(u32::try_from(data.len()).unwrap_or_default().to_be_bytes());
    let body = [kind, data].concat();
    out.extend(&body);
    out.extend(crc(&body).to_be_bytes());
}

/// A zlib stream (RFC 1950) of stored blocks.
fn stored(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let count = data.len().div_ceil(usize::from(u16::MAX));
    for (i, block) in data.chunks(usize::from(u16::MAX)).enumerate() {
        let length = u16::try_from(block.len()).unwrap_or_default();
        out.push(u8::from(i + 1 == count));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    let (a, b) = data.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    out.extend(((b << 16) | a).to_be_bytes());
    out
}

/// CRC-32 as PNG has it.
fn crc(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_the_ones_of_their_standards() {
        assert_eq!(crc(b"123456789"), 0xcbf4_3926);
        assert_eq!(
            stored(b"Wikipedia")[2..],
            [1, 9, 0, 0xf6, 0xff, b'W', b'i', b'k', b'i', b'p', b'e', b'd', b'i', b'a', 0x11, 0xe6, 0x03, 0x98]
        );
    }

    /// What is drawn is the code, square by square.
    #[test]
    fn both_pictures_show_the_code() {
        let text = "https://shop.example/@shop?ref=ABC#k=xyz";
        let code = QrCode::with_error_correction_level(text, EcLevel::M).unwrap();
        let side = code.width() + 2 * QUIET;
        let svg = String::from_utf8(draw(text, Format::Svg).unwrap()).unwrap();
        let png = draw(text, Format::Png).unwrap();
        let (row, data) = (1 + side * SCALE / 8, 8 + 25 + 8 + 2 + 5);
        assert_eq!(u32::from_be_bytes(png[16..20].try_into().unwrap()) as usize, side * SCALE);
        for (x, y) in (0..side).flat_map(|x| (0..side).map(move |y| (x, y))) {
            let inside = (QUIET..QUIET + code.width()).contains(&x) && (QUIET..QUIET + code.width()).contains(&y);
            let dark = inside && code[(x - QUIET, y - QUIET)] == Color::Dark;
            assert_eq!(svg.contains(&format!("M{x} {y}h1v1h-1z")), dark, "{x} {y}");
            let pixel = (x * SCALE, y * SCALE);
            let byte = png[data + pixel.1 * row + 1 + pixel.0 / 8];
            assert_eq!(byte & (0x80 >> (pixel.0 % 8)) == 0, dark, "{x} {y}");
        }
        assert!(draw(&"x".repeat(5_000), Format::Svg).is_none());
    }
}
