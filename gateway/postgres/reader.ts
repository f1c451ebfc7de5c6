/**
 * Cuts a byte stream into frames, and reads the fields of one frame.
 *
 *   typed:   Int8 type | Int32 length (itself included) | payload
 *   startup:             Int32 length (itself included) | payload
 *
 * A frame that lies inside one chunk is a view of it; a frame that spans chunks is gathered in a buffer of its own,
 * which grows with what arrived and not with what the length claims.
 */
import { GatewayError } from "../errors.ts";
import type { FormatCode } from "./messages.ts";

export class Frame {
  /** 0 for a startup packet, which has no type byte. */
  readonly type: number;
  /** What was received: the payload lies in it from `start` to `end`. Copy what must outlive the handling of this frame. */
  readonly bytes: Buffer;
  readonly start: number;
  readonly end: number;

  constructor(type: number, bytes: Buffer, start = 0, end = bytes.length) {
    this.type = type;
    this.bytes = bytes;
    this.start = start;
    this.end = end;
  }

  /** What follows the length, as a view. A view costs more than reading a small message: most frames never need one. */
  get payload(): Buffer {
    return this.bytes.subarray(this.start, this.end);
  }

  get payloadBytes(): number {
    return this.end - this.start;
  }
}

export class FrameReader {
  /** Bound on a frame's length field; it holds from the next frame on. */
  messageBytesMax: number;
  readonly #startupBytesMax: number;
  #startup: boolean;
  #chunks: Buffer[] = [];
  #head = 0;
  #buffered = 0;
  #gathered: Buffer | undefined;
  #gatheredLength = 0;
  #failure: GatewayError | undefined;

  /** @param options With `startupBytesMax` the stream opens untyped. */
  constructor(options: { messageBytesMax: number; startupBytesMax?: number }) {
    this.messageBytesMax = options.messageBytesMax;
    this.#startupBytesMax = options.startupBytesMax ?? 0;
    this.#startup = options.startupBytesMax !== undefined;
  }

  /** Bytes received and not yet handed out. */
  get bufferedBytes(): number {
    return this.#buffered + this.#gatheredLength;
  }

  /** Of what was received and not handed out; undefined when that is nothing. Asked before the first frame only. */
  get firstByte(): number | undefined {
    return this.#chunks[0]?.[this.#head];
  }

  /** Frames from here on bear a type byte: call it on the StartupMessage, before the next frame is asked for. */
  startupDone(): void {
    this.#startup = false;
  }

  /** Takes over `chunk`, which must not be written to afterwards. */
  push(chunk: Buffer): void {
    if (chunk.length === 0) return;
    this.#chunks.push(chunk);
    this.#buffered += chunk.length;
  }

  /** Everything received and not handed out, e.g. to refuse it; the reader is empty afterwards. */
  takeRemaining(): Buffer {
    const parts = this.#chunks.map((chunk, index) => (index === 0 ? chunk.subarray(this.#head) : chunk));
    if (this.#gathered) parts.unshift(this.#gathered.subarray(0, this.#gatheredLength));
    this.#chunks = [];
    this.#head = this.#buffered = this.#gatheredLength = 0;
    this.#gathered = undefined;
    return Buffer.concat(parts);
  }

  /** The next complete frame, or undefined until more is pushed. @throws GatewayError protocol.malformed, protocol.too_large; then always. */
  next(): Frame | undefined {
    if (this.#failure) throw this.#failure;
    const header = this.#startup ? 4 : 5;
    for (;;) {
      const chunk = this.#chunks[0];
      if (chunk === undefined) return undefined;
      if (this.#gathered === undefined && chunk.length - this.#head >= header) {
        const total = this.#frameLength(chunk, this.#head);
        const end = this.#head + total;
        if (end <= chunk.length) {
          const frame = this.#frame(chunk, this.#head, end);
          this.#consume(total);
          return frame;
        }
      }
      const frame = this.#gather(chunk, header);
      if (frame) return frame;
    }
  }

  *[Symbol.iterator](): IterableIterator<Frame> {
    for (let frame = this.next(); frame !== undefined; frame = this.next()) yield frame;
  }

  #gather(chunk: Buffer, header: number): Frame | undefined {
    const length = this.#gatheredLength;
    const total = this.#gathered !== undefined && length >= header ? this.#frameLength(this.#gathered, 0) : header;
    const count = Math.min(total - length, chunk.length - this.#head);
    const needed = length + count;
    if (this.#gathered === undefined || this.#gathered.length < needed) {
      const doubled = Math.min(total, (this.#gathered?.length ?? 0) * 2);
      const grown = Buffer.allocUnsafeSlow(Math.max(needed, doubled));
      this.#gathered?.copy(grown, 0, 0, length);
      this.#gathered = grown;
    }
    chunk.copy(this.#gathered, length, this.#head, this.#head + count);
    this.#gatheredLength = needed;
    this.#consume(count);
    if (needed < header || needed < this.#frameLength(this.#gathered, 0)) return undefined;
    const frame = this.#frame(this.#gathered, 0, needed);
    this.#gathered = undefined;
    this.#gatheredLength = 0;
    return frame;
  }

  #frame(buffer: Buffer, start: number, end: number): Frame {
    if (this.#startup) return new Frame(0, buffer, start + 4, end);
    return new Frame(buffer[start] ?? 0, buffer, start + 5, end);
  }

  #consume(count: number): void {
    this.#head += count;
    this.#buffered -= count;
    if (this.#head === this.#chunks[0]?.length) {
      this.#chunks.shift();
      this.#head = 0;
    }
  }

  /** Length of the whole frame at `start`, type byte included. */
  #frameLength(buffer: Buffer, start: number): number {
    const length = int32At(buffer, this.#startup ? start : start + 1);
    const max = this.#startup ? this.#startupBytesMax : this.messageBytesMax;
    if (length < 4) this.#fail(new GatewayError("protocol.malformed", `invalid message length ${length}`));
    if (length > max) {
      this.#fail(
        new GatewayError("protocol.too_large", `a message of ${length} bytes is more than the ${max} accepted`),
      );
    }
    return this.#startup ? length : length + 1;
  }

  #fail(error: GatewayError): never {
    this.#failure = error;
    this.#chunks = [];
    this.#gathered = undefined;
    this.#head = this.#buffered = this.#gatheredLength = 0;
    throw error;
  }
}

// A byte-order mark is text like any other here: stripping it would judge another text than the target gets.
const strictText = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

const scannedBytesMax = 512;

/** Of bytes that are there: a `DataView`, which the methods of a Buffer make, costs more than the four bytes. */
export function int32At(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)
  );
}
export function uint16At(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

/** A string that is not of the encoding: the message is whole all the same, and what follows can be read. */
export class InvalidText extends GatewayError {}

/** Reads one payload from left to right; every read past its end is protocol.malformed. */
export class PayloadReader {
  readonly #bytes: Buffer;
  readonly #end: number;
  readonly #message: string;
  #at: number;

  constructor(frame: Frame, message: string) {
    this.#bytes = frame.bytes;
    this.#at = frame.start;
    this.#end = frame.end;
    this.#message = message;
  }

  get remaining(): number {
    return this.#end - this.#at;
  }

  malformed(what: string): never {
    throw new GatewayError("protocol.malformed", `malformed ${this.#message} message: ${what}`);
  }

  tooMany(what: string, count: number, max: number): never {
    throw new GatewayError(
      "protocol.too_large",
      `${this.#message} message with ${count} ${what}, at most ${max} accepted`,
    );
  }

  #advance(count: number): number {
    const at = this.#at;
    if (count > this.#end - at) this.malformed("it ends too early");
    this.#at = at + count;
    return at;
  }

  byte(): number {
    return this.#bytes[this.#advance(1)] as number;
  }
  int16(): number {
    return (uint16At(this.#bytes, this.#advance(2)) << 16) >> 16;
  }
  /** A count: Int16 on the wire, used unsigned for parameters. */
  uint16(): number {
    return uint16At(this.#bytes, this.#advance(2));
  }
  int32(): number {
    return int32At(this.#bytes, this.#advance(4));
  }
  /** An OID. */
  uint32(): number {
    return int32At(this.#bytes, this.#advance(4)) >>> 0;
  }
  bytes(count: number): Buffer {
    if (count < 0) this.malformed(`a length of ${count}`);
    const at = this.#advance(count);
    return this.#bytes.subarray(at, at + count);
  }
  /** Int32 length, then so many bytes; -1 is NULL. */
  value(): Buffer | null {
    const length = this.int32();
    return length === -1 ? null : this.bytes(length);
  }
  rest(): Buffer {
    return this.bytes(this.remaining);
  }
  rawString(): Buffer {
    const start = this.#at;
    return this.#bytes.subarray(start, this.#stringEnd());
  }
  string(): string {
    const bytes = this.#bytes;
    const start = this.#at;
    const scanEnd = Math.min(this.#end, start + scannedBytesMax);
    // Names and most statements are short and plain ASCII: one pass finds the end and says so.
    for (let at = start; at < scanEnd; at++) {
      const byte = bytes[at] as number;
      if (byte === 0) {
        this.#at = at + 1;
        return at === start ? "" : bytes.toString("latin1", start, at);
      }
      if (byte >= 0x80) break;
    }
    const end = this.#stringEnd();
    try {
      return strictText.decode(bytes.subarray(start, end));
    } catch {
      throw new InvalidText("protocol.malformed", `malformed ${this.#message} message: a string is not valid UTF-8`);
    }
  }
  /** Goes behind the terminator. @returns where it is */
  #stringEnd(): number {
    const end = this.#bytes.indexOf(0, this.#at);
    if (end < 0 || end >= this.#end) this.malformed("a string is not terminated");
    this.#at = end + 1;
    return end;
  }
  format(): FormatCode {
    const code = this.int16();
    if (code !== 0 && code !== 1) this.malformed(`format code ${code}`);
    return code;
  }
  formats(max: number): FormatCode[] {
    const count = this.uint16();
    if (count > max) this.tooMany("format codes", count, max);
    const formats: FormatCode[] = [];
    for (let index = 0; index < count; index++) formats.push(this.format());
    return formats;
  }
  end(): void {
    if (this.remaining !== 0) this.malformed(`${this.remaining} bytes too many`);
  }
}

/** @returns `message`, which nothing follows. @throws GatewayError protocol.malformed where something does */
export function withoutFields<Message extends { readonly type: string }>(frame: Frame, message: Message): Message {
  if (frame.payloadBytes > 0) new PayloadReader(frame, message.type).end();
  return message;
}
