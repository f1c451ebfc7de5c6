/** `policies/README.md` as its reader follows it: its data loads, its rule compiles, its fixture passes, its commands run. */
import { afterAll, expect, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { copyCheckout } from "./test/checkout.ts";

const readme = readFileSync(resolve(import.meta.dir, "../../policies/README.md"), "utf8");
const blocks = [...readme.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map(([, language = "", text = ""]) => ({
  language,
  text,
}));
const of = (language: string) => blocks.filter((block) => block.language === language).map(({ text }) => text);

const checkout = copyCheckout();
afterAll(() => checkout.remove());

test("every block is of a kind that this test follows", () => {
  expect(blocks.map(({ language }) => language).sort()).toEqual(["rego", "sh", "yaml", "yaml"]);
});

test("data, rule, fixture and commands do what they say", async () => {
  const [data = "", fixture = ""] = of("yaml");
  const [rego = ""] = of("rego");
  const write = (path: string, text: string) => writeFileSync(join(checkout.folder, path), text);
  write("policies.yaml", data);
  write("fixtures/sessions/hours.yaml", fixture);
  const before = await checkout.policy("test", "fixtures/sessions/hours.yaml");
  expect(before.out).toContain("- expected deny hours.night\n  + got      allow access.class");

  mkdirSync(join(checkout.folder, "policies/hours"));
  write("policies/hours/hours.rego", rego);
  const main = readFileSync(join(checkout.folder, "policies/main.rego"), "utf8");
  const composed = main
    .replace("import data.sallyport.labels", "import data.sallyport.hours\n$&")
    .replace("writes.deny", "hours.deny, $&");
  expect(composed.match(/hours/g)?.length).toBe(2);
  write("policies/main.rego", composed);

  const commands = of("sh").flatMap((text) => text.trim().split("\n"));
  expect(commands.length).toBeGreaterThan(3);
  for (const command of commands) {
    const line = command.replace(/\s+#.*$/, "").replace(/^bun run policy /, "");
    expect(line).not.toStartWith("bun");
    const words = [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? "");
    const { code, out } = await checkout.policy(...words);
    expect([line, code === 0 ? "" : out]).toEqual([line, ""]);
    if (words[0] === "explain") expect(out).toMatch(/mask public\.customers\.ssn with redact/);
    if (words[1]?.endsWith("hours.yaml")) expect(out).toContain("2 fixture sessions, 3 steps: all as expected");
  }
}, 120_000);
