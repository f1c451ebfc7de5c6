/** Feeds masked values back to a real PostgreSQL: each must be taken by its own column, in text and in binary. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import postgres from "postgres";
// biome-ignore lint/style/noRestrictedImports: the scripts folder of this name starts a server; it is no protocol of the gateway.
import { type RunningPostgres, startPostgres } from "../../scripts/postgres/server.ts";
import { maskKinds } from "../policy/decision.ts";
import { maskerFor } from "./mask.ts";

const key = Buffer.alloc(32, 7);
const columns = [
  ...["text", "varchar", "varchar(3)", "varchar(20)", "char(5)", "char(14)", "name", "json", "jsonb", "xml"],
  ...["int2", "int4", "int8", "float4", "float8", "numeric", "numeric(5,2)", "numeric(4,4)", "bool", "date"],
  ...["timestamp", "timestamp(0)", "timestamptz", "time", "timetz", "interval", "uuid", "bytea", "inet", "cidr"],
  ...["macaddr", "int4[]", "text[]", "point", "oid", "money", "int4range", "tsvector", "bit(3)"],
];
const rows = [
  [
    ...["jane.doe@example.com", "Grüße, Jürgen 🦊", "abc", "jo@example.com", "ab", "123-45-6789", "a_name"],
    ...['{"a": [1, "ü"]}', '{"a": [1, "ü"]}', "<a>b</a>", "-32768", "-2147483648", "-9223372036854775808", "1.5"],
    ...["-2.5e100", "-123456789.123456789", "-999.99", "0.1234", "true", "1984-06-17", "1984-06-17 12:30:00.123456"],
    ...["9999-12-31 23:59:59", "2024-02-29 23:59:59+02", "23:59:59.999999", "12:00:00+05:30", "1 year -2 days 3 hours"],
    ...["6ba7b810-9dad-11d1-80b4-00c04fd430c8", "\\x00ff", "2001:db8::1/64", "10.0.0.0/8", "08:00:2b:01:02:03"],
    ...["{1,NULL}", '{"a","b"}', "(1,2)", "42", "12.34", "[1,5)", "'a' 'b'", "101"],
  ],
  [
    ...["", "", "", "x@y.example", "", "", "", "null", "[]", "text", "0", "0", "0", "NaN", "Infinity", "NaN", "0", "0"],
    ...["false", "infinity", "-infinity", "0044-03-15 00:00:00 BC", "0001-01-01 00:00:00+00", "00:00", "00:00+00", "0"],
    ...["00000000-0000-0000-0000-000000000000", "", "127.0.0.1", "::/0", "00:00:00:00:00:00", "{}", "{}"],
    ...["(0,0)", "0", "0", "empty", "", "000"],
  ],
  columns.map(() => null),
];

let server: RunningPostgres;
let sql: postgres.Sql;

beforeAll(async () => {
  server = await startPostgres();
  sql = postgres({ ...server, max: 1, onnotice: () => undefined });
  const definition = columns.map((type, index) => `c${index} ${type}`).join(", ");
  for (const table of ["source", "from_text", "from_binary"]) await sql.unsafe(`CREATE TABLE ${table} (${definition})`);
  for (const row of rows)
    await sql.unsafe(
      insertion("source", row),
      row.filter((value) => value !== null),
    );
});
afterAll(async () => {
  await sql?.end();
  await server?.stop();
});

function insertion(table: string, row: readonly (string | null)[]): string {
  let parameters = 0;
  const values = row.map((value, index) => (value === null ? "NULL" : `$${++parameters}::text::${columns[index]}`));
  return `INSERT INTO ${table} VALUES (${values.join(", ")})`;
}

async function columnTypes(): Promise<readonly { typeOid: number; typeModifier: number }[]> {
  const attributes = await sql`SELECT atttypid::int8::float8 AS type, atttypmod AS modifier FROM pg_attribute
    WHERE attrelid = 'source'::regclass AND attnum > 0 ORDER BY attnum`;
  return attributes.map((row) => ({ typeOid: row.type as number, typeModifier: row.modifier as number }));
}

const copySignature = Buffer.from("PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0", "latin1");

/** Rows of COPY … (FORMAT binary): int16 count, then int32 length and bytes a field; -1 is NULL, and ends the rows. */
function decodeCopy(bytes: Buffer): (Buffer | null)[][] {
  const decoded: (Buffer | null)[][] = [];
  let offset = copySignature.length;
  for (let count = bytes.readInt16BE(offset); count >= 0; count = bytes.readInt16BE(offset)) {
    offset += 2;
    const row: (Buffer | null)[] = [];
    for (let field = 0; field < count; field++) {
      const length = bytes.readInt32BE(offset);
      offset += 4;
      row.push(length < 0 ? null : bytes.subarray(offset, offset + length));
      offset += Math.max(0, length);
    }
    decoded.push(row);
  }
  return decoded;
}

function encodeCopy(table: readonly (readonly (Buffer | null)[])[]): Buffer {
  const int16 = (value: number) => Buffer.from(Uint8Array.of((value >> 8) & 0xff, value & 0xff));
  const field = (value: Buffer | null) => {
    const length = Buffer.alloc(4);
    length.writeInt32BE(value === null ? -1 : value.length);
    return value === null ? length : Buffer.concat([length, value]);
  };
  const body = table.map((row) => Buffer.concat([int16(row.length), ...row.map(field)]));
  return Buffer.concat([copySignature, ...body, int16(-1)]);
}

describe("a masked value is valid for its column", () => {
  for (const kind of maskKinds) {
    test(`${kind}: in text, in binary, and the same in both`, async () => {
      const types = await columnTypes();
      const asText = columns.map((_, index) => `c${index}::text`).join(", ");
      const maskers = (format: number) =>
        types.map(({ typeOid, typeModifier }) => maskerFor(kind, typeOid, format, key, typeModifier));
      await sql`TRUNCATE from_text, from_binary`;

      const texts = (await sql.unsafe(`SELECT ${asText} FROM source`).values()) as (string | null)[][];
      const textMaskers = maskers(0);
      for (const row of texts) {
        const masked = row.map((value, index) => {
          const bytes = textMaskers[index]?.(value === null ? null : Buffer.from(value)) ?? null;
          return bytes?.toString() ?? null;
        });
        await sql.unsafe(
          insertion("from_text", masked),
          masked.filter((value) => value !== null),
        );
      }

      const chunks: Buffer[] = [];
      const copied = await sql.unsafe("COPY source TO STDOUT (FORMAT binary)").readable();
      for await (const chunk of copied) chunks.push(chunk as Buffer);
      const binaryMaskers = maskers(1);
      const masked = decodeCopy(Buffer.concat(chunks)).map((row) =>
        row.map((value, index) => binaryMaskers[index]?.(value) ?? null),
      );
      const sink = await sql.unsafe("COPY from_binary FROM STDIN (FORMAT binary)").writable();
      await pipeline(Readable.from([encodeCopy(masked)]), sink);

      const fromText = await sql.unsafe(`SELECT ${asText} FROM from_text`).values();
      const fromBinary = await sql.unsafe(`SELECT ${asText} FROM from_binary`).values();
      expect(fromBinary).toEqual(fromText);
      expect(fromText).toHaveLength(rows.length);
      expect(fromText[2]).toEqual(columns.map(() => null));
    });
  }
});

test("the year that partial leaves of a time is the same whatever zone the session chooses", async () => {
  const masked = maskerFor("partial", 1184, 0, key, -1);
  for (const time of ["2024-12-28 12:04:05.5+00", "2025-01-03 23:00:00+00", "1900-06-01 00:00:00+00"]) {
    for (const zone of [
      "UTC",
      "<x>-100",
      "<x>+99",
      "<x>-5:30",
      "Asia/Kolkata",
      "Europe/Amsterdam",
      "America/St_Johns",
    ]) {
      await sql.unsafe(`SET timezone = '${zone}'`);
      const [row] = await sql.unsafe(`SELECT '${time}'::timestamptz::text AS shown`);
      const year = masked(Buffer.from(row?.shown))?.toString();
      expect({ zone, shown: row?.shown, year }).toMatchObject({ year: `${time.slice(0, 4)}-01-01 00:00:00+00` });
    }
  }
  await sql.unsafe("RESET timezone");
});
