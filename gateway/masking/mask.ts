/**
 * Masks one value of a PostgreSQL column so that what is left is valid for the column's type and its wire format
 * (PostgreSQL manual, "Frontend/Backend Protocol", "Overview": formats 0 text and 1 binary; binary layouts are those
 * of each type's *_send function). What cannot be masked within its type becomes NULL: arrays, composites, enums,
 * ranges, booleans, unknown types, and values that are not as their type says.
 *
 * | type            | redact            | partial                               | hash (keyed, stable)      |
 * | --------------- | ----------------- | ------------------------------------- | ------------------------- |
 * | text and alike  | [redacted]        | last 4 of more than 8; e-mail: domain | h: and 32 hex digits      |
 * | json, jsonb     | "[redacted]"      | as redact                             | "h:…"                     |
 * | xml             | <redacted/>       | as redact                             | <hash>…</hash>            |
 * | int2 int4 int8  | 0                 | 0                                     | a positive number         |
 * | float, numeric  | 0                 | 0                                     | NULL                      |
 * | date, timestamp | 1970-01-01        | the year                              | NULL                      |
 * | time, interval  | 00:00:00          | as redact                             | NULL                      |
 * | uuid            | zeros             | zeros and the last 4 digits           | a version 8 UUID          |
 * | bytea           | no bytes          | no bytes                              | 16 bytes                  |
 * | inet, macaddr   | zeros             | zeros                                 | NULL                      |
 */
import type { MaskKind } from "../policy/decision.ts";

/** The result must not be written to: constant masks are shared between values. NULL stays NULL. */
export type Masker = (value: Buffer | null) => Buffer | null;

export const hashKeyBytesMin = 16;

/** Type OIDs of pg_type.dat; they are fixed. */
const oid = {
  ...{ bytea: 17, name: 19, int8: 20, int2: 21, int4: 23, text: 25, json: 114, xml: 142, cidr: 650, float4: 700 },
  ...{ float8: 701, macaddr: 829, inet: 869, bpchar: 1042, varchar: 1043, date: 1082, time: 1083, timestamp: 1114 },
  ...{ timestamptz: 1184, interval: 1186, timetz: 1266, numeric: 1700, uuid: 2950, jsonb: 3802 },
} as const;

/** Kinds but `null`, which is the same for every type. */
type TypedKind = Exclude<MaskKind, "null">;

interface Column {
  readonly kind: TypedKind;
  readonly typeOid: number;
  readonly binary: boolean;
  readonly typeModifier: number;
  readonly digest: (canonical: Buffer) => Buffer;
}

const toNull: Masker = () => null;
const none = Buffer.alloc(0);
const utf8 = (text: string) => Buffer.from(text, "utf8");

/**
 * @param typeOid and typeModifier as RowDescription gives them (-1: no modifier).
 * @param hashKey at least `hashKeyBytesMin` bytes. @throws RangeError for a shorter one, whatever the kind.
 */
export function maskerFor(
  kind: MaskKind,
  typeOid: number,
  format: number,
  hashKey: Uint8Array,
  typeModifier = -1,
): Masker {
  if (hashKey.byteLength < hashKeyBytesMin) throw new RangeError(`A hash key has at least ${hashKeyBytesMin} bytes`);
  if (kind === "null" || (format !== 0 && format !== 1)) return toNull;
  if (kind !== "redact" && kind !== "partial" && kind !== "hash") return toNull;
  const digest = (canonical: Buffer) => new Bun.CryptoHasher("sha256", hashKey).update(canonical).digest();
  const mask = typedMasker({ kind, typeOid, binary: format === 1, typeModifier, digest });
  return (value) => (value === null ? null : mask(value));
}

function typedMasker(column: Column): (value: Buffer) => Buffer | null {
  switch (column.typeOid) {
    case oid.text:
    case oid.varchar:
    case oid.bpchar:
    case oid.name:
      return textMasker(column);
    case oid.json:
    case oid.jsonb:
      return jsonMasker(column);
    case oid.xml:
      if (column.kind !== "hash") return constant(utf8("<redacted/>"));
      return (value) => utf8(`<hash>${hashText(column, value).slice(2)}</hash>`);
    case oid.int2:
      return integerMasker(column, 2);
    case oid.int4:
      return integerMasker(column, 4);
    case oid.int8:
      return integerMasker(column, 8);
    case oid.float4:
      return constantUnlessHash(column, "0", Buffer.alloc(4));
    case oid.float8:
      return constantUnlessHash(column, "0", Buffer.alloc(8));
    case oid.numeric:
      // ndigits, weight, sign and dscale, each int16.
      return constantUnlessHash(column, "0", Buffer.alloc(8));
    case oid.date:
    case oid.timestamp:
    case oid.timestamptz:
      return dateMasker(column);
    case oid.time:
      return constantUnlessHash(column, "00:00:00", Buffer.alloc(8));
    case oid.timetz:
      return constantUnlessHash(column, "00:00:00+00", Buffer.alloc(12));
    case oid.interval:
      return constantUnlessHash(column, "00:00:00", Buffer.alloc(16));
    case oid.uuid:
      return uuidMasker(column);
    case oid.bytea:
      return byteaMasker(column);
    case oid.inet:
      // family (2 is IPv4), prefix bits, is_cidr, address length, address.
      return constantUnlessHash(column, "0.0.0.0", Buffer.from([2, 32, 0, 4, 0, 0, 0, 0]));
    case oid.cidr:
      return constantUnlessHash(column, "0.0.0.0/32", Buffer.from([2, 32, 1, 4, 0, 0, 0, 0]));
    case oid.macaddr:
      return constantUnlessHash(column, "00:00:00:00:00:00", Buffer.alloc(6));
    default:
      return toNull;
  }
}

function constant(bytes: Buffer): () => Buffer {
  return () => bytes;
}

function constantUnlessHash(column: Column, text: string, binary: Buffer): (value: Buffer) => Buffer | null {
  if (column.kind === "hash") return toNull;
  return constant(column.binary ? binary : utf8(text));
}

function hashText(column: Column, canonical: Buffer): string {
  return `h:${column.digest(canonical).toString("hex", 0, 16)}`;
}

// --- text: the same bytes in both formats ---

function textMasker(column: Column): (value: Buffer) => Buffer {
  const charactersMax = textCharactersMax(column);
  const padded = column.typeOid === oid.bpchar && charactersMax !== Number.POSITIVE_INFINITY;
  const fit = (text: string): Buffer => {
    const characters = text.length <= charactersMax ? text : [...text].slice(0, charactersMax).join("");
    if (!padded) return utf8(characters);
    return utf8(characters + " ".repeat(Math.max(0, charactersMax - [...characters].length)));
  };
  /** Trailing spaces mean nothing in a bpchar, so they must not change its hash or count as characters kept. */
  const canonical = (value: Buffer): Buffer => {
    if (column.typeOid !== oid.bpchar) return value;
    let end = value.length;
    while (end > 0 && value[end - 1] === 0x20) end--;
    return value.subarray(0, end);
  };
  switch (column.kind) {
    case "redact":
      return constant(fit("[redacted]"));
    case "hash":
      return (value) => fit(hashText(column, canonical(value)));
    case "partial":
      return (value) => fit(partialText(canonical(value)));
  }
}

/** varchar(n) and bpchar(n) have n + 4 as their modifier; a name holds 63 bytes, of which one character may take 4. */
function textCharactersMax({ typeOid, typeModifier }: Column): number {
  if (typeOid === oid.name) return 60;
  if (typeOid === oid.text || typeModifier < 5) return Number.POSITIVE_INFINITY;
  return typeModifier - 4;
}

const emailBytesMax = 320;
const email = /^([^\s@]+)(@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?\.[A-Za-z]{2,24})$/u;

/**
 * The last 4 of more than 8 characters, and nothing of fewer. Of an e-mail address its domain, and the first letter
 * of a name of two or more before it. How many characters are hidden does not show.
 */
function partialText(value: Buffer): string {
  if (value.length <= emailBytesMax && value.includes(0x40)) {
    const match = email.exec(value.toString("utf8"));
    if (match !== null) {
      const [first, second] = match[1] ?? "";
      return `${second === undefined ? "" : first}****${match[2]}`;
    }
  }
  // Only the end is decoded: 4 characters take 16 bytes at most, and a value of 36 bytes has more than 8 characters.
  const isLong = value.length > 35;
  const end = [...value.toString("utf8", isLong ? characterStart(value, value.length - 16) : 0)];
  return isLong || end.length > 8 ? `****${end.slice(-4).join("")}` : "****";
}

/** The first byte at or after `from` that begins a UTF-8 character. */
function characterStart(value: Buffer, from: number): number {
  let start = from;
  while (((value[start] ?? 0) & 0xc0) === 0x80) start++;
  return start;
}

// --- json: text; jsonb in binary has a version byte before it ---

function jsonMasker(column: Column): (value: Buffer) => Buffer | null {
  const version = column.typeOid === oid.jsonb && column.binary ? Buffer.from([1]) : none;
  const document = (text: string) => Buffer.concat([version, utf8(JSON.stringify(text))]);
  if (column.kind !== "hash") return constant(document("[redacted]"));
  return (value) => {
    if (!value.subarray(0, version.length).equals(version)) return null;
    return document(hashText(column, value.subarray(version.length)));
  };
}

// --- integers: decimal text, or two's complement of the type's size ---

function integerMasker(column: Column, bytes: 2 | 4 | 8): (value: Buffer) => Buffer | null {
  const encode = (number: bigint): Buffer => {
    if (!column.binary) return utf8(number.toString());
    const whole = Buffer.alloc(8);
    whole.writeBigInt64BE(number);
    return whole.subarray(8 - bytes);
  };
  if (column.kind !== "hash") return constant(encode(0n));
  const largest = 2n ** BigInt(bytes * 8 - 1) - 1n;
  return (value) => {
    const canonical = integerText(value, column.binary, bytes);
    if (canonical === null) return null;
    return encode((column.digest(canonical).readBigUInt64BE(0) % largest) + 1n);
  };
}

function integerText(value: Buffer, binary: boolean, bytes: 2 | 4 | 8): Buffer | null {
  if (!binary) return /^-?[0-9]{1,19}$/.test(value.toString("latin1", 0, 21)) ? value : null;
  if (value.length !== bytes) return null;
  return utf8(bytes === 8 ? value.readBigInt64BE(0).toString() : String(value.readIntBE(0, bytes)));
}

// --- dates: ISO text, or days (date) or microseconds (timestamps) since 2000-01-01 ---

const dayMs = 86_400_000;
const epoch2000Ms = Date.UTC(2000, 0, 1);

function dateMasker(column: Column): (value: Buffer) => Buffer | null {
  const encode = (year: number): Buffer => {
    if (column.binary) return encodeYearStart(year, column.typeOid === oid.date);
    const day = `${String(year).padStart(4, "0")}-01-01`;
    if (column.typeOid === oid.date) return utf8(day);
    return utf8(`${day} 00:00:00${column.typeOid === oid.timestamptz ? "+00" : ""}`);
  };
  const redacted = encode(1970);
  switch (column.kind) {
    case "hash":
      return toNull;
    case "redact":
      return constant(redacted);
    case "partial":
      // Infinity, years before Christ and a DateStyle other than ISO have no year here.
      return (value) => {
        const year = yearOf(value, column);
        return year === null ? redacted : encode(year);
      };
  }
}

function yearOf(value: Buffer, { binary, typeOid }: Column): number | null {
  if (binary) return yearOfBinary(value, typeOid === oid.date);
  const text = value.toString("latin1", 0, 64);
  if (typeOid === oid.timestamptz) return utcYearOf(text);
  const match = /^([0-9]{4,6})-[0-9]{2}-[0-9]{2}(?![^ ])(?!.*BC)/.exec(text);
  return match === null ? null : Number(match[1]);
}

/** In the zone of the session, which its caller chooses, the time at which the year turns would be theirs to choose. */
function utcYearOf(text: string): number | null {
  const form =
    /^([0-9]{4,6})-([0-9]{2})-([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]+)?([+-])([0-9]{2,3})(?::([0-9]{2}))?(?::([0-9]{2}))?$/;
  const match = form.exec(text);
  if (match === null) return null;
  const [year, month, day, hours, minutes, seconds] = match.slice(1, 7).map(Number) as Six;
  const [zoneHours, zoneMinutes, zoneSeconds] = match.slice(8).map((part) => Number(part ?? 0)) as Three;
  const behind = match[7] === "-" ? 1 : -1;
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  date.setUTCHours(hours + behind * zoneHours, minutes + behind * zoneMinutes, seconds + behind * zoneSeconds);
  const utcYear = date.getUTCFullYear();
  return Number.isNaN(utcYear) || utcYear < 1 ? null : utcYear;
}

type Three = [number, number, number];
type Six = [...Three, ...Three];

function yearOfBinary(value: Buffer, isDate: boolean): number | null {
  if (value.length !== (isDate ? 4 : 8)) return null;
  const sinceMs = isDate ? value.readInt32BE(0) * dayMs : Number(value.readBigInt64BE(0) / 1_000n);
  const year = new Date(epoch2000Ms + sinceMs).getUTCFullYear();
  return Number.isNaN(year) || year < 1 ? null : year;
}

function encodeYearStart(year: number, isDate: boolean): Buffer {
  const sinceMs = new Date(0).setUTCFullYear(year, 0, 1) - epoch2000Ms;
  const bytes = Buffer.alloc(isDate ? 4 : 8);
  if (isDate) bytes.writeInt32BE(sinceMs / dayMs);
  else bytes.writeBigInt64BE(BigInt(sinceMs) * 1_000n);
  return bytes;
}

// --- uuid: 36 characters, or 16 bytes ---

function uuidMasker(column: Column): (value: Buffer) => Buffer | null {
  const encode = (bytes: Buffer): Buffer => {
    if (column.binary) return bytes;
    return utf8(bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5"));
  };
  if (column.kind === "redact") return constant(encode(Buffer.alloc(16)));
  return (value) => {
    const bytes = column.binary ? value : Buffer.from(value.toString("latin1", 0, 40).replaceAll("-", ""), "hex");
    if (bytes.length !== 16) return null;
    if (column.kind === "partial") return encode(Buffer.concat([Buffer.alloc(14), bytes.subarray(14)]));
    const hashed = Buffer.from(column.digest(bytes).subarray(0, 16));
    hashed[6] = 0x80 | ((hashed[6] ?? 0) & 0x0f); // version 8 (RFC 9562, 5.8)
    hashed[8] = 0x80 | ((hashed[8] ?? 0) & 0x3f); // its variant
    return encode(hashed);
  };
}

// --- bytea: bytes, or \x and hex digits; with bytea_output=escape it is not read, so its hash is NULL ---

function byteaMasker(column: Column): (value: Buffer) => Buffer | null {
  const encode = (bytes: Buffer) => (column.binary ? bytes : utf8(`\\x${bytes.toString("hex")}`));
  if (column.kind !== "hash") return constant(encode(none));
  return (value) => {
    if (column.binary) return encode(column.digest(value).subarray(0, 16));
    if (value[0] !== 0x5c || value[1] !== 0x78) return null;
    const bytes = Buffer.from(value.toString("latin1", 2), "hex");
    return bytes.length * 2 === value.length - 2 ? encode(column.digest(bytes).subarray(0, 16)) : null;
  };
}
