import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type MaskKind, maskKinds } from "../policy/decision.ts";
import { maskerFor } from "./mask.ts";

const key = Buffer.alloc(32, 7);
const otherKey = Buffer.alloc(32, 8);
const [int4, text, bpchar, varchar, date, timestamptz, uuid, jsonb] = [23, 25, 1042, 1043, 1082, 1184, 2950, 3802];

function maskText(kind: MaskKind, typeOid: number, value: string, typeModifier = -1, hashKey: Uint8Array = key) {
  return maskerFor(kind, typeOid, 0, hashKey, typeModifier)(Buffer.from(value))?.toString() ?? null;
}

describe("every mask", () => {
  const known = [16, 17, 19, 20, 21, 23, 25, 114, 142, 650, 700, 701, 829, 869, 1042, 1043, 1082, 1083, 1114, 1184];
  const typeOid = fc.oneof(fc.constantFrom(...known, 1186, 1266, 1700, 2950, 3802), fc.nat());

  test("leaves NULL as NULL", () => {
    for (const kind of maskKinds)
      for (const type of known)
        for (const format of [0, 1]) expect(maskerFor(kind, type, format, key)(null)).toBeNull();
  });

  test("takes any bytes as the value, and never gives them back", () => {
    fc.assert(
      fc.property(
        ...[fc.constantFrom(...maskKinds), typeOid, fc.constantFrom(0, 1), fc.uint8Array({ minLength: 13 })],
        (kind, type, format, value) => {
          const masked = maskerFor(kind, type, format, key)(Buffer.from(value));
          expect(masked?.includes(Buffer.from(value)) ?? false).toBe(false);
        },
      ),
      { numRuns: 2_000 },
    );
  });

  test("redacts to the same bytes whatever the value", () => {
    fc.assert(
      fc.property(typeOid, fc.constantFrom(0, 1), fc.uint8Array(), fc.uint8Array(), (type, format, one, other) => {
        const redact = maskerFor("redact", type, format, key, 24);
        expect(redact(Buffer.from(one))).toEqual(redact(Buffer.from(other)));
      }),
    );
  });

  test("makes NULL of a type it does not know, an array, an unknown format or kind, and for the kind null", () => {
    for (const kind of maskKinds) {
      expect(maskText(kind, 16_400, "a")).toBeNull();
      expect(maskText(kind, 1_009, "{a}")).toBeNull();
      expect(maskText(kind, 16, "t")).toBeNull();
      expect(maskerFor(kind, text, 2, key)(Buffer.from("a"))).toBeNull();
    }
    expect(maskText("null", text, "a")).toBeNull();
    expect(maskText("reverse" as MaskKind, text, "a")).toBeNull();
  });

  test("refuses a hash key that is too short", () => {
    expect(() => maskerFor("redact", text, 0, Buffer.alloc(15))).toThrow(RangeError);
  });
});

describe("redact", () => {
  test("is cut to the column's length, and padded where the type pads", () => {
    expect(maskText("redact", text, "x")).toBe("[redacted]");
    expect(maskText("redact", varchar, "x", 4 + 3)).toBe("[re");
    expect(maskText("redact", bpchar, "x", 4 + 12)).toBe("[redacted]  ");
  });
});

describe("partial", () => {
  test("keeps the last 4 of more than 8 characters, and nothing of fewer", () => {
    expect(maskText("partial", text, "123-45-6789")).toBe("****6789");
    expect(maskText("partial", text, "123456789")).toBe("****6789");
    expect(maskText("partial", text, "12345678")).toBe("****");
    expect(maskText("partial", text, "")).toBe("****");
    expect(maskText("partial", bpchar, "12345678     ", 4 + 13)).toBe("****         ");
  });

  test("counts characters, not bytes", () => {
    expect(maskText("partial", text, "ééééé")).toBe("****");
    expect(maskText("partial", text, "🦊".repeat(8))).toBe("****");
    expect(maskText("partial", text, `${"x".repeat(99)}🦊é€z`)).toBe("****🦊é€z");
  });

  test("shows no more than half of any text that is not an e-mail address", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (value) => {
        fc.pre(!value.includes("@") && value.isWellFormed());
        const masked = maskText("partial", text, value) ?? "";
        expect(masked.startsWith("****")).toBe(true);
        const kept = [...masked].length - 4;
        expect(kept === 0 || kept * 2 <= [...value].length).toBe(true);
      }),
    );
  });

  test("keeps first letter and domain of an e-mail address, and no letter of a name of one", () => {
    expect(maskText("partial", text, "jane.doe@example.com")).toBe("j****@example.com");
    expect(maskText("partial", text, "jo@example.com")).toBe("j****@example.com");
    expect(maskText("partial", text, "j@example.com")).toBe("****@example.com");
    expect(maskText("partial", varchar, "jo@a.io", 4 + 7)).toBe("j****@a");
    expect(maskText("partial", text, "the code is @ 4711")).toBe("****4711");
  });

  test("keeps the year of a date, and of one it cannot read nothing", () => {
    expect(maskText("partial", date, "1984-06-17")).toBe("1984-01-01");
    expect(maskText("partial", timestamptz, "1984-06-17 12:30:00.5+02")).toBe("1984-01-01 00:00:00+00");
    for (const value of ["infinity", "17.06.1984", "0044-03-15 BC"]) {
      expect(maskText("partial", date, value)).toBe("1970-01-01");
    }
  });

  test("the year of a time with a zone is UTC's, whatever zone the session is in", () => {
    for (const value of [
      "2024-12-31 23:59:59.999999+00",
      "2025-01-01 00:59:59+01",
      "2025-01-05 03:59:59+100",
      "2024-12-31 18:29:59-05:30",
      "2024-12-31 23:59:30-00:00:29",
    ]) {
      expect(maskText("partial", timestamptz, value)).toBe("2024-01-01 00:00:00+00");
    }
    expect(maskText("partial", timestamptz, "2024-12-31 23:59:59-00:00:01")).toBe("2025-01-01 00:00:00+00");
    expect(maskText("partial", timestamptz, "10000-01-01 00:00:00+01")).toBe("9999-01-01 00:00:00+00");
    for (const value of [
      "infinity",
      "2024-12-31",
      "2024-12-31 10:00:00",
      "2024-12-31 10:00:00+00 BC",
      "0001-01-01 00:00:00+05",
    ])
      expect(maskText("partial", timestamptz, value)).toBe("1970-01-01 00:00:00+00");
  });

  test("keeps the last 4 digits of a UUID", () => {
    expect(maskText("partial", uuid, "6ba7b810-9dad-11d1-80b4-00c04fd430c8")).toBe(
      "00000000-0000-0000-0000-0000000030c8",
    );
  });
});

describe("hash", () => {
  test("is stable under one key, and another under another", () => {
    const one = maskText("hash", text, "jane@example.com");
    expect(one).toMatch(/^h:[0-9a-f]{32}$/);
    expect(maskText("hash", text, "jane@example.com")).toBe(one);
    expect(maskText("hash", text, "jane@example.org")).not.toBe(one);
    expect(maskText("hash", text, "jane@example.com", -1, otherKey)).not.toBe(one);
  });

  test("is the same for text, varchar and a padded bpchar", () => {
    const one = maskText("hash", text, "abc");
    expect(maskText("hash", varchar, "abc", 4 + 50)).toBe(one);
    expect(maskText("hash", bpchar, "abc       ", 4 + 34)).toBe(one);
  });

  test("of a UUID is a version 8 UUID", () => {
    expect(maskText("hash", uuid, "6ba7b810-9dad-11d1-80b4-00c04fd430c8")).toMatch(
      /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
    );
  });

  test("makes NULL of a value that is not as its type says", () => {
    expect(maskText("hash", int4, "abc")).toBeNull();
    expect(maskerFor("hash", int4, 1, key)(Buffer.alloc(3))).toBeNull();
    expect(maskerFor("hash", uuid, 1, key)(Buffer.alloc(15))).toBeNull();
    expect(maskerFor("hash", jsonb, 1, key)(Buffer.from([2, 0x22, 0x22]))).toBeNull();
  });
});
