/** `policy test` and `policy mutate` as their users run them, in a checkout that changes. */
import { afterAll, expect, test } from "bun:test";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Mutant, readMutants } from "../mutate/mutants.ts";
import { copyCheckout } from "./checkout.ts";

const checkout = copyCheckout();
const policies = join(checkout.folder, "policies");
afterAll(() => checkout.remove());

/** Rules without their bodies: what a hand could do to the sources. */
function removed(id: string): Mutant {
  const found = readMutants(policies).find(({ key }) => key.endsWith(`deny ${id}: removed`));
  if (found === undefined) throw new Error(`no rule ${id}`);
  return found;
}

async function changed(file: string, text: string, use: () => Promise<void>): Promise<void> {
  const path = join(policies, file);
  const before = readFileSync(path);
  writeFileSync(path, text);
  try {
    await use();
  } finally {
    writeFileSync(path, before);
  }
}

test("a default rule that changes fails with fixture, step, rule, expected and got; put back, all passes", async () => {
  const { file, text } = removed("writes.unbounded");
  await changed(file, text, async () => {
    const { code, out } = await checkout.policy("test");
    expect(code).toBe(1);
    expect(out).toContain("the sources differ from policies/dist/bundle.tar.gz");
    expect(out).toMatch(
      /^fixtures\/sessions\/writes\.yaml:\d+: an engineer on call writes, step 2: update orders set status = 'paid'\n {2}- expected deny writes\.unbounded\n {2}\+ got {6}allow access\.class\n/m,
    );
    expect(out).toMatch(/rule writes\.unbounded did not decide\n +policies\/writes\/writes\.rego:\d+$/m);
    expect(out).toMatch(/^policies\/main_test\.rego:\d+: test_an_unbounded_write_is_denied: failed$/m);
  });
  const good = await checkout.policy("test");
  expect(good.out).not.toContain("differ");
  expect(good.code).toBe(0);
}, 60_000);

test("JUnit's file has each step, and a failure's whole text", async () => {
  const path = join(checkout.folder, "junit.xml");
  const { file, text } = removed("agents.notify");
  await changed(file, text, async () => {
    await checkout.policy("test", "--junit", path);
  });
  const xml = readFileSync(path, "utf8");
  expect(xml).toMatch(/<testsuite name="an agent may not grant, listen or notify" [^>]* failures="2" /);
  expect(xml).toMatch(
    /<testcase [^>]*name="3: listen x" [^>]*line="\d+"[^>]*><failure message="[^"]*step 3: listen x">/,
  );
  expect(xml).toContain('<testsuite name="Rego unit tests" file="main_test.rego"');
  expect(xml.match(/<testcase /g)?.length).toBeGreaterThan(300);
}, 60_000);

test("coverage is a table with a gate, and names rules that decided no step", async () => {
  const whole = await checkout.policy("test", "--coverage", "--coverage-min", "80");
  expect(whole.out).toMatch(/^writes\/writes\.rego +100\.0 %$/m);
  expect(whole.out).toContain("every rule decided some step");
  expect(whole.code).toBe(0);
  const tests = join(policies, "main_test.rego");
  const before = readFileSync(tests);
  writeFileSync(tests, "package sallyport_test\n\ntest_nothing if true\n");
  for (const file of ["agents", "several"]) rmSync(join(checkout.folder, `fixtures/sessions/${file}.yaml`));
  const less = await checkout.policy("test", "--coverage-min", "80");
  writeFileSync(tests, before);
  expect(less.code).toBe(1);
  expect(less.out).toMatch(/FAIL {2}coverage \d+\.\d % is below 80 %/);
  expect(less.out).toMatch(
    /rules that decided no step\n(.*\n)* {2}agents\.notify {2}policies\/agents\/agents\.rego:\d+/,
  );
  // With those fixtures gone nothing notices that the rule is gone too.
  const mutants = await checkout.policy("mutate", "--only", "deny agents.%s: removed");
  expect(mutants.code).toBe(1);
  expect(mutants.out).toMatch(
    /SURVIVED {2}policies\/agents\/agents\.rego:\d+ {2}agents\/agents\.rego deny agents\.%s: removed {2}\(Rego's unit tests notice it\)/,
  );
  const other = await checkout.policy("mutate", "--only", "deny writes.unbounded: removed", "--no-rego-tests");
  expect(other.out).toContain("1 mutants");
  expect(other.code).toBe(0);
}, 60_000);

test("--watch tests again when a source or a fixture is saved", async () => {
  const run = checkout.start("test", "--watch");
  let out = "";
  const decoder = new TextDecoder();
  const reading = (async () => {
    for await (const chunk of run.stdout) out += decoder.decode(chunk);
  })();
  const until = async (pattern: RegExp) => {
    const deadline = Date.now() + 20_000;
    while (!pattern.test(out)) {
      if (Date.now() > deadline) throw new Error(`not seen: ${pattern}\n${out}`);
      await Bun.sleep(10);
    }
    out = "";
  };
  try {
    await until(/all as expected[\s\S]*waiting for a change/);
    const { file, text } = removed("labels.%s");
    await changed(file, text, () => until(/labels\.rego was saved[\s\S]*FAIL[\s\S]*waiting for a change/));
    await until(/labels\.rego was saved[\s\S]*all as expected[\s\S]*waiting for a change/);
    const path = join(checkout.folder, "fixtures/sessions/access.yaml");
    writeFileSync(path, `${readFileSync(path, "utf8")}\n# saved\n`);
    await until(/access\.yaml was saved[\s\S]*all as expected/);
  } finally {
    run.kill();
    await Promise.all([run.exited, reading]);
  }
}, 60_000);

test("a source that does not compile, a wrong option and a path that is not there are told as such", async () => {
  await changed("writes/writes.rego", "package sallyport.writes\n\ndeny contains x if { y }\n", async () => {
    const { code, out } = await checkout.policy("test");
    expect(code).toBe(1);
    expect(out).toMatch(/writes\.rego:3: /);
  });
  expect((await checkout.policy("test", "--coverage-min", "most")).code).toBe(2);
  expect((await checkout.policy("test", "--nothing")).out).toContain("usage: bun run policy test");
  expect((await checkout.policy("test", "no/such.yaml")).code).toBe(1);
}, 60_000);
