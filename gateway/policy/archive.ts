/**
 * Reads the few files of a policy bundle out of its tar.gz, in memory: POSIX.1-1988 (ustar) headers of 512 bytes,
 * each followed by its content padded to 512. Nothing is unpacked to disk, so a path cannot escape anywhere.
 *
 *   0 name(100) | 124 size(12, octal) | 148 checksum(8, octal) | 156 type(1) | 345 prefix(155)
 */
import { gunzipSync } from "node:zlib";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";

const blockBytes = 512;
const entriesMax = 10_000;

function invalid(message: string, cause?: unknown): GatewayError {
  return new GatewayError("policy.bundle_invalid", `policy bundle: ${message}`, cause === undefined ? {} : { cause });
}

function text(block: Uint8Array, start: number, length: number): string {
  const field = block.subarray(start, start + length);
  const end = field.indexOf(0);
  return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end));
}

function octal(block: Uint8Array, start: number, length: number): number {
  const digits = text(block, start, length).trim();
  if (!/^[0-7]{1,11}$/.test(digits)) throw invalid("a header of the archive is malformed");
  return Number.parseInt(digits, 8);
}

/** The header's own checksum counts its eight bytes as spaces. */
function checkSum(header: Uint8Array): void {
  let sum = 8 * 0x20;
  for (let index = 0; index < blockBytes; index++) if (index < 148 || index >= 156) sum += header[index] ?? 0;
  if (sum !== octal(header, 148, 8)) throw invalid("a header of the archive has a wrong checksum");
}

function unzip(bytes: Uint8Array): Uint8Array {
  if (bytes.byteLength > limits.bundleBytesMax) throw invalid(`larger than ${limits.bundleBytesMax} bytes`);
  try {
    return gunzipSync(bytes, { maxOutputLength: limits.bundleBytesMax });
  } catch (cause) {
    throw invalid(`not a gzip file, or larger than ${limits.bundleBytesMax} bytes once unpacked`, cause);
  }
}

/** Regular files by path without a leading slash. Throws `policy.bundle_invalid`. */
export function readArchive(bytes: Uint8Array): ReadonlyMap<string, Uint8Array> {
  const archive = unzip(bytes);
  const files = new Map<string, Uint8Array>();
  for (let offset = 0, entries = 0; offset + blockBytes <= archive.byteLength; entries++) {
    const header = archive.subarray(offset, offset + blockBytes);
    if (header[0] === 0) return files;
    if (entries >= entriesMax) throw invalid(`more than ${entriesMax} entries`);
    checkSum(header);
    const size = octal(header, 124, 12);
    const start = offset + blockBytes;
    if (start + size > archive.byteLength) throw invalid("the archive ends inside a file");
    const type = header[156];
    // '0' and NUL are regular files; directories, links and pax headers carry nothing a policy needs.
    if (type === 0x30 || type === 0) {
      const prefix = text(header, 257, 5) === "ustar" ? text(header, 345, 155) : "";
      const name = `${prefix === "" ? "" : `${prefix}/`}${text(header, 0, 100)}`.replace(/^(\.?\/)+/, "");
      if (files.has(name)) throw invalid(`the archive holds ${name} twice`);
      files.set(name, archive.subarray(start, start + size));
    }
    offset = start + Math.ceil(size / blockBytes) * blockBytes;
  }
  throw invalid("the archive has no end");
}
