import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { lockFile } from "./lock.ts";

const folder = mkdtempSync(join(tmpdir(), "sallyport-lock-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What another process gets. */
async function lockedElsewhere(path: string): Promise<string> {
  const code = `
    const { lockFile } = await import(${JSON.stringify(join(import.meta.dir, "lock.ts"))});
    try { lockFile(${JSON.stringify(path)}); console.log("locked"); } catch (error) { console.log(error.message); }`;
  const other = Bun.spawn([process.execPath, "-e", code], { stdout: "pipe", stderr: "inherit" });
  return (await new Response(other.stdout).text()).trim();
}

test("a second part of the process that is refused the lock does not take it from the first", async () => {
  const path = join(folder, "sallyport.db");
  const unlock = lockFile(path);
  expect(() => lockFile(path)).toThrow("Another gateway writes the store");
  expect(await lockedElsewhere(path)).toBe(`Another gateway writes the store ${path}.`);
  unlock();
  expect(await lockedElsewhere(path)).toBe("locked");
});
