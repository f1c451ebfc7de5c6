import { expect, test } from "bun:test";
import { chunkOf, linesOf } from "./chunk.ts";

test("a chunk is read as it was written, and bytes that would only look the same are not", () => {
  for (const repeated of [1, 1_000]) {
    const lines = Array.from({ length: repeated }, () => '{"text":"\ufeff odd \ufffd"}');
    const data = Buffer.from(`${lines.join("\n")}\n`);
    const chunk = chunkOf("s", 5, repeated, data);
    expect(chunk.codec).toBe(repeated === 1 ? "raw" : "zstd");
    expect(linesOf(chunk)).toEqual(lines);
    const odd = Buffer.from(data.toString("latin1").replace("\xef\xbf\xbd", "\xff"), "latin1");
    expect(odd.toString("utf8")).toBe(data.toString("utf8"));
    expect(() => linesOf(chunkOf("s", 5, repeated, odd))).toThrow("not valid");
  }
});

test("a chunk has its lines, each ended, and no others", () => {
  const read = (text: string, last: number) => linesOf({ ...chunkOf("s", 1, 1, Buffer.from(text)), last });
  expect(read("{}\n{}\n", 2)).toEqual(["{}", "{}"]);
  for (const [text, last] of [
    ["{}\n{}\n", 1],
    ["{}\n{}\n", 3],
    ["{}\n{}", 2],
    ["{}\n\n", 1],
    ["\n{}\n", 1],
  ] as const) {
    expect(() => read(text, last)).toThrow("other lines than it says");
  }
});
