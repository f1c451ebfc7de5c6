/**
 * Lines of JSON, as UTF-8, in one growing buffer. A string that is put together from its parts first and encoded then
 * takes twice as long, and of each command four events are written.
 */

/** Up to here one pass over a string's characters writes it, if it needs no escapes. */
const scannedLengthMax = 48;
const firstBytes = 4_096;
const quote = 0x22;
const backslash = 0x5c;

export class Utf8Writer {
  #bytes: Buffer = Buffer.allocUnsafeSlow(firstBytes);
  #end = 0;
  /** The latest large number, in digits: times come several times each millisecond. */
  #large = Number.NaN;
  #largeDigits: Uint8Array = new Uint8Array();

  /** Bytes written so far. */
  get length(): number {
    return this.#end;
  }
  /** Bytes that it holds, written or not. */
  get capacity(): number {
    return this.#bytes.length;
  }

  /** A view, valid until the next write. */
  written(start = 0): Buffer {
    return this.#bytes.subarray(start, this.#end);
  }

  /** Takes back what was written from there on. */
  truncate(length: number): void {
    this.#end = length;
  }

  #reserve(count: number): number {
    const at = this.#end;
    if (at + count > this.#bytes.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, at + count));
      this.#bytes.copy(grown, 0, 0, at);
      this.#bytes = grown;
    }
    this.#end = at + count;
    return at;
  }

  byte(value: number): this {
    const at = this.#reserve(1);
    this.#bytes[at] = value;
    return this;
  }

  /** Bytes that are JSON already, or a part of it. */
  raw(bytes: Uint8Array): this {
    const at = this.#reserve(bytes.length);
    this.#bytes.set(bytes, at);
    return this;
  }

  /** What is JSON already, or a part of it. */
  json(text: string): this {
    // Of a UTF-16 code unit at most three bytes.
    const at = this.#reserve(text.length * 3);
    this.#end = at + this.#bytes.write(text, at);
    return this;
  }

  /** As `json`, for what is known to be ASCII. */
  ascii(text: string): this {
    const at = this.#reserve(text.length);
    this.#bytes.write(text, at, "latin1");
    return this;
  }

  /** @param value as JSON.stringify writes it */
  number(value: number): this {
    if ((value | 0) === value && value >= 0) return this.#digits(value);
    if (value !== this.#large) {
      this.#large = value;
      this.#largeDigits = Buffer.from(JSON.stringify(value));
    }
    return this.raw(this.#largeDigits);
  }

  /** @param value an unsigned Int31 */
  #digits(value: number): this {
    let count = 1;
    for (let rest = value; rest >= 10; rest = (rest / 10) | 0) count += 1;
    const first = this.#reserve(count);
    const bytes = this.#bytes;
    let rest = value;
    for (let at = first + count - 1; at >= first; at--) {
      const tens = (rest / 10) | 0;
      bytes[at] = 0x30 + rest - tens * 10;
      rest = tens;
    }
    return this;
  }

  /** A string with its quotes, as JSON.stringify writes it. */
  string(value: string): this {
    const { length } = value;
    if (length > scannedLengthMax) return this.json(JSON.stringify(value));
    const at = this.#reserve(length + 2);
    const bytes = this.#bytes;
    bytes[at] = quote;
    for (let index = 0; index < length; index++) {
      const code = value.charCodeAt(index);
      if (code < 0x20 || code > 0x7e || code === quote || code === backslash) {
        this.#end = at;
        return this.json(JSON.stringify(value));
      }
      bytes[at + 1 + index] = code;
    }
    bytes[at + 1 + length] = quote;
    return this;
  }
}
