/**
 * Writes messages into one growing buffer. `take` hands out what was written as a view and goes on behind it, so that
 * a socket may keep the bytes while the next messages are written.
 */
import { GatewayError } from "../errors.ts";

/** A quiet session keeps little; one that writes much gets there by doubling. */
const firstSlabBytes = 1_024;
const slabBytesMax = 64 * 1_024;
/** Up to here one pass over a string's characters writes it, if they are ASCII. */
const scannedLengthMax = 512;

export class MessageWriter {
  #buffer: Buffer = Buffer.allocUnsafeSlow(firstSlabBytes);
  /** Where what `take` will return begins. */
  #start = 0;
  #end = 0;
  #lengthAt = 0;

  /** Bytes written since the last `take`. */
  get length(): number {
    return this.#end - this.#start;
  }

  take(): Buffer {
    const taken = this.#buffer.subarray(this.#start, this.#end);
    this.#start = this.#end;
    return taken;
  }

  /** A view of what was written since the last `take`, from `offset`; valid until the next write. */
  peek(offset: number): Buffer {
    return this.#buffer.subarray(this.#start + offset, this.#end);
  }

  #reserve(count: number): number {
    const at = this.#end;
    if (at + count > this.#buffer.length) {
      const pending = at - this.#start;
      const next = Math.min(slabBytesMax, this.#buffer.length * 2);
      const grown = Buffer.allocUnsafeSlow(Math.max(next, (pending + count) * 2));
      this.#buffer.copy(grown, 0, this.#start, at);
      this.#lengthAt -= this.#start;
      this.#buffer = grown;
      this.#start = 0;
      this.#end = pending + count;
      return pending;
    }
    this.#end = at + count;
    return at;
  }

  /** Opens a message; `finish` sets its length. */
  begin(type: number): this {
    const at = this.#reserve(5);
    this.#buffer[at] = type;
    this.#lengthAt = at + 1;
    return this;
  }
  /** Opens a startup packet, which has no type byte. */
  beginStartup(): this {
    this.#lengthAt = this.#reserve(4);
    return this;
  }
  finish(): this {
    this.#putInt32(this.#lengthAt, this.#end - this.#lengthAt);
    return this;
  }

  byte(value: number): this {
    const at = this.#reserve(1);
    this.#buffer[at] = value;
    return this;
  }
  int16(value: number): this {
    if (value < -0x8000 || value > 0x7fff) throw new RangeError(`${value} is no Int16`);
    const at = this.#reserve(2);
    this.#buffer[at] = value >> 8;
    this.#buffer[at + 1] = value;
    return this;
  }
  uint16(value: number): this {
    if (value < 0 || value > 0xffff) throw new RangeError(`${value} is no unsigned Int16`);
    const at = this.#reserve(2);
    this.#buffer[at] = value >> 8;
    this.#buffer[at + 1] = value;
    return this;
  }
  int32(value: number): this {
    if (value < -0x80000000 || value > 0x7fffffff) throw new RangeError(`${value} is no Int32`);
    this.#putInt32(this.#reserve(4), value);
    return this;
  }
  uint32(value: number): this {
    if (value < 0 || value > 0xffffffff) throw new RangeError(`${value} is no unsigned Int32`);
    this.#putInt32(this.#reserve(4), value);
    return this;
  }
  #putInt32(at: number, value: number): void {
    const buffer = this.#buffer;
    buffer[at] = value >> 24;
    buffer[at + 1] = value >> 16;
    buffer[at + 2] = value >> 8;
    buffer[at + 3] = value;
  }
  bytes(value: Uint8Array): this {
    const at = this.#reserve(value.length);
    this.#buffer.set(value, at);
    return this;
  }
  value(value: Uint8Array | null): this {
    if (value === null) return this.int32(-1);
    return this.int32(value.length).bytes(value);
  }
  /** A NUL-terminated string. A NUL inside would end it early and turn its rest into fields: refused. */
  string(value: string): this {
    const { length } = value;
    if (length <= scannedLengthMax) {
      const at = this.#reserve(length + 1);
      const buffer = this.#buffer;
      let index = 0;
      for (; index < length; index++) {
        const code = value.charCodeAt(index);
        if (code === 0 || code >= 0x80) break;
        buffer[at + index] = code;
      }
      if (index === length) {
        buffer[at + length] = 0;
        return this;
      }
      this.#end = at;
    }
    if (value.includes("\0")) throw new GatewayError("protocol.malformed", "a string contains a NUL character");
    const at = this.#reserve(length * 3 + 1);
    const written = this.#buffer.write(value, at, "utf8");
    this.#buffer[at + written] = 0;
    this.#end = at + written + 1;
    return this;
  }
  uint16s(values: readonly number[]): this {
    this.uint16(values.length);
    for (const value of values) this.uint16(value);
    return this;
  }

  /** A whole message from its payload, under a length of our own. */
  message(type: number, payload: Buffer, start = 0, end = payload.length): this {
    const at = this.#reserve(5 + end - start);
    this.#buffer[at] = type;
    this.#putInt32(at + 1, end - start + 4);
    payload.copy(this.#buffer, at + 5, start, end);
    return this;
  }
}
