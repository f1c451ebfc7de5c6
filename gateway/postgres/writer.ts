/**
 * Writes messages into one growing buffer. `take` hands out what was written as a view and goes on behind it, so that
 * a socket may keep the bytes while the next messages are written.
 */
import { GatewayError } from "../errors.ts";

/** A quiet session keeps little; one that writes much gets there by doubling. */
const firstSlabBytes = 1_024;
const slabBytesMax = 64 * 1_024;

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
    this.#buffer.writeInt32BE(this.#end - this.#lengthAt, this.#lengthAt);
    return this;
  }

  byte(value: number): this {
    const at = this.#reserve(1);
    this.#buffer[at] = value;
    return this;
  }
  int16(value: number): this {
    const at = this.#reserve(2);
    this.#buffer.writeInt16BE(value, at);
    return this;
  }
  uint16(value: number): this {
    const at = this.#reserve(2);
    this.#buffer.writeUInt16BE(value, at);
    return this;
  }
  int32(value: number): this {
    const at = this.#reserve(4);
    this.#buffer.writeInt32BE(value, at);
    return this;
  }
  uint32(value: number): this {
    const at = this.#reserve(4);
    this.#buffer.writeUInt32BE(value, at);
    return this;
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
    if (value.includes("\0")) throw new GatewayError("protocol.malformed", "a string contains a NUL character");
    const reserved = value.length * 3 + 1;
    const at = this.#reserve(reserved);
    const length = this.#buffer.write(value, at, "utf8");
    this.#buffer[at + length] = 0;
    this.#end = at + length + 1;
    return this;
  }
  uint16s(values: readonly number[]): this {
    this.uint16(values.length);
    for (const value of values) this.uint16(value);
    return this;
  }

  /** A whole message from its payload, under a length of our own. */
  message(type: number, payload: Uint8Array): this {
    const at = this.#reserve(5 + payload.length);
    this.#buffer[at] = type;
    this.#buffer.writeInt32BE(payload.length + 4, at + 1);
    this.#buffer.set(payload, at + 5);
    return this;
  }
}
