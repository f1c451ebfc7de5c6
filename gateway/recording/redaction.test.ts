import { expect, test } from "bun:test";
import { limits } from "../limits.ts";
import { extend, extendByLines, genesis } from "./chain.ts";
import { encodeEvent } from "./encode.ts";
import type { RecordedEvent } from "./events.ts";
import { redacted } from "./named-secrets.ts";
import { redactedJson, redactSecrets, redactStatement } from "./redaction.ts";
import { Utf8Writer } from "./utf8-writer.ts";

const hidden = "hunter2hunter2";
const hexOf = (text: string) => Buffer.from(text, "latin1").toString("hex");
for (const text of [
  `ALTER ROLE a PASSWORD '${hidden}'`,
  `create user a encrypted password E'x\\'${hidden}'`,
  `ALTER USER a PASSWORD U&'${hidden}'`,
  `ALTER ROLE a PASSWORD $t$${hidden}$t$`,
  `ALTER ROLE a PASSWORD /* c */ '${hidden}`,
  `CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'a', password '${hidden}')`,
  `CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'a', token '${hidden}')`,
  `alter user\nmapping for a server s options (set api_key $$${hidden}$$)`,
  `do $x$ begin execute 'create user mapping for a server s options (key ''${hidden}'')'; end $x$`,
  `CREATE SUBSCRIPTION s CONNECTION 'host=h password=${hidden}' PUBLICATION p`,
  `SELECT dblink('host=h password=${hidden}', 'select 1')`,
  `SELECT dblink('host=h password=''a ${hidden}''', 'select 1')`,
  `select 'postgres://u:${hidden}@h/d'`,
  `select 'postgres://u:p@${hidden}@h/d'`,
  `select 'Bearer ${hidden}'`,
  `select 'eyJhbGciOi.${hidden}.${hidden}'`,
  `select 'ghp_${hidden}${hidden}'`,
  `select 'ya29.${hidden}${hidden}'`,
  `select 'glpat-${hidden}${hidden}'`,
  `select 'glrt-${hidden}${hidden}'`,
  `select 'hf_${hidden}${hidden}'`,
  `select 'npm_${hidden}${hidden}'`,
  `select 'dop_v1_${hidden}${hidden}'`,
  `select 'SG.${hidden}${hidden}.${hidden}${hidden}'`,
  `select 'sk_live_${hidden}${hidden}'`,
  `select 'whsec_${hidden}${hidden}'`,
  `select 'hvs.${hidden}${hidden}'`,
  `select 'dckr_pat_${hidden}${hidden}'`,
  `select 'pypi-${hidden}${hidden}${hidden}'`,
  `select 'SCRAM-SHA-256$4096:${hidden}==$${hidden}=:${hidden}='`,
  `select '\\x${hexOf(`glpat-${hidden}${hidden}`)}'::bytea`,
  `\\x${hexOf(`glpat-${hidden}${hidden}`).toUpperCase()}`,
  // An array's binary form: a length that is a letter, before the text.
  `\\x${hexOf(`\0\0\0Aglpat-${hidden}${hidden}`)}`,
  `\\x${hexOf("nothing of it")} glpat-${hidden}${hidden}`,
  `select '-----BEGIN PRIVATE KEY-----\n${hidden}\n-----END PRIVATE KEY-----'`,
]) {
  test(`takes the secret out of ${text}`, () => {
    const result = redactSecrets(text);
    expect(result).not.toContain(hidden);
    expect(result.toLowerCase()).not.toContain(hexOf(hidden));
    expect(result).toContain("<redacted>");
    // A value by itself is no statement.
    if (text.startsWith("\\x")) return;
    expect(redactStatement(text)).not.toContain(hidden);
    expect(redactStatement(text).toLowerCase()).not.toContain(hexOf(hidden));
  });
}
for (const value of [
  `host=h password=abc,${hidden} port=1`,
  `host=h password=abc;${hidden}`,
  `host=h password=abc)${hidden}`,
  `host=h password=abc'${hidden}`,
  `host=h password=abc"${hidden}`,
  `host=h password = 'a\\' ${hidden}' port=1`,
  `host=h password=abc\\ ${hidden}`,
  `host=h old_password=${hidden}`,
  `password=a,secret = ${hidden}`,
  `password=a,secret= ${hidden}`,
  `pwd=a;password = b;secret = '${hidden} ${hidden}'`,
  `alter user bob password = ${hidden}`,
  `create user bob password "${hidden}" x`,
  `{"password": "${hidden}`,
  `1,"host=h password=abc,${hidden}",2`,
  `select dblink('host=h password=ab''${hidden}', 'select 1')`,
  `postgres://me@corp:${hidden}@h/db`,
  `postgres://me@corp:p@${hidden}@h/db`,
  `postgres://u:${"x".repeat(600)}${hidden}@h/db`,
  `http://h/x,postgres://u:${hidden}@h/db`,
  `x-eyJhbGciOi.${hidden}.${hidden}`,
]) {
  test(`takes the secret out of the value ${value}`, () => {
    const result = redactSecrets(value);
    expect(result).not.toContain(hidden);
    expect(result).toContain(redacted);
    if (value.endsWith(" port=1")) expect(result).toEndWith(" port=1");
  });
}
test("leaves of JSON what is no secret", () => {
  for (const [text, rest] of [
    [`{"dsn":"host=h password=a,${hidden}","x":1}`, '","x":1}'],
    [`{"it's":1,"dsn":"password=a'${hidden}","x":1}`, '","x":1}'],
    [`{"dsn":"postgres://me@corp:${hidden}@h/db","mail":"a@b"}`, '@h/db","mail":"a@b"}'],
    [`{"a \\" b":"password=${hidden}","x":1}`, '","x":1}'],
  ] as const) {
    const result = redactSecrets(text);
    expect(result).not.toContain(hidden);
    expect(result).toEndWith(`${redacted}${rest}`);
  }
});
for (const text of [
  `select 1, pwd = /* c */ '${hidden}'`,
  `select 1 where secret_key = E'${hidden}'`,
  `select 1 where password = 'a'\n  '${hidden}'`,
  `alter role a password 'x'\n -- c\n '${hidden}'`,
  `create user mapping for a server s options (U&"p\\0061ssword" '${hidden}')`,
  `create user mapping for a server s options ("password" '${hidden}')`,
  `select 1; CREATE/* c */USER -- c\n MAPPING FOR a SERVER s OPTIONS (key '${hidden}')`,
  `alter user mapping for "a;b" server s options (user 'c;d', add key E'${hidden}')`,
  `set app.password to '${hidden}'`,
  `select set_config('app.password', '${hidden}', false)`,
  `select f(password => '${hidden}')`,
  `update t set secret = ('${hidden}')`,
  `select E'host=x password=\\'${hidden} x\\''`,
  `select '{"password": "${hidden}"}'::json`,
  `update t set password = N'${hidden}'`,
  `update t set password = n'a'\n'${hidden}'`,
  `select set_config('app.password', N'${hidden}', false)`,
  `update t set secret = B'${hidden}', password = x'${hidden}'`,
  `create subscription s connection 'host=h pass'\n'word=${hidden}' publication p`,
  `select E'host=h pass' -- c\n 'word=''${hidden}'''`,
  `select 'ghp_'\n'${hidden}'\n\n'${hidden}'`,
]) {
  test(`takes the secret out of the statement ${text}`, () => {
    expect(redactStatement(text)).not.toContain(hidden);
  });
}
test("a name is shown, however it would look like a secret's value; so is what only stands for one", () => {
  for (const text of [
    `drop table "password=accounts"`,
    `update "secret" set "pwd=" = 1 where "://a:b@c" > 0`,
    `select 1 as "bearer of_the_ring"`,
    `select format('alter role %I password %L', a, b) from t`,
    `alter role bob password null`,
    `select 'mapping'; create table user_mapping (a text default 'b'); comment on table user_mapping is 'of a user mapping'`,
    `drop user mapping for a server s; select 'x' from create_user_mapping`,
  ])
    expect(redactStatement(text)).toBe(text);
  expect(redactStatement(`select 1 as "ghp_${hidden}${hidden}"`)).toBe(`select 1 as "${redacted}"`);
});
test("leaves ordinary statements as they are", () => {
  for (const text of [
    "select 1",
    "select password_changed_at from users",
    "select gl_account, half_life from npm_packages",
    "select 'it''s'",
    `\\x${hexOf("a text that a driver sends as binary")}`,
  ])
    expect(redactSecrets(text)).toBe(text);
});
/** An event as a recording has it. */
function recorded(event: RecordedEvent) {
  const writer = new Utf8Writer();
  encodeEvent(writer, event);
  return JSON.parse(writer.written().toString());
}
test("a target's words are recorded up to their limit, whatever their length hides", () => {
  const M = `${"x ".repeat(limits.recordedFieldLengthMax / 2 - 10)}glpat-${hidden}${hidden}`;
  for (const event of [
    { type: "notice", at: 0, command: 1, fields: { M, D: "short" } },
    { type: "result", at: 0, command: 1, tag: "", rows: 0, bytes: 0, error: { M, D: "short" } },
  ]) {
    const { fields, error } = recorded(event as RecordedEvent);
    expect(fields ?? error).toEqual({ M: `${M.slice(0, -6 - 2 * hidden.length)}<redacted>`, D: "short" });
    const longer = { M: `${M} ${M}`, D: "short" };
    const cut = recorded({ ...event, ...(error ? { error: longer } : { fields: longer }) } as RecordedEvent);
    expect((cut.fields ?? cut.error).M).toHaveLength(limits.recordedFieldLengthMax);
  }
});
test("the chain depends on the session, each line and their order", () => {
  const one = extend(extend(genesis("s"), "a"), "b");
  expect(extend(extend(genesis("s"), "b"), "a")).not.toEqual(one);
  expect(extend(extend(genesis("t"), "a"), "b")).not.toEqual(one);
  expect(extend(genesis("s"), "b")).not.toEqual(one);
});
test("lines in one piece extend the chain as one by one, however long they are", () => {
  const lines = [0, 1, 4_000, 5_000, 3, 70_000, 2].map((length) => "é".repeat(length));
  const whole = Buffer.from(lines.map((line) => `${line}\n`).join(""));
  expect(extendByLines(genesis("s"), whole)).toEqual(lines.reduce(extend, genesis("s")));
  expect(extendByLines(genesis("s"), Buffer.alloc(0))).toEqual(genesis("s"));
  expect(() => extendByLines(genesis("s"), whole.subarray(0, -1))).toThrow("no line feed");
});

test("hostile text is redacted in bounded work, whatever it repeats", () => {
  for (const piece of [
    "/*",
    "$a",
    "$a$",
    "-- ",
    '"',
    "E'",
    "a ",
    "://a:",
    "secret",
    "x_",
    "bearer ",
    "password ",
    "eyJ",
    "'",
    "glpat-",
    "SG.a-",
    "ya29.",
    "eyJ-",
    "-eyJ",
    "eyJabcde.",
    `\\x${hexOf("eyJ-").repeat(30_000)}`,
    "-----BEGIN ",
    "-----BEGIN PRIVATE KEY",
    "password=",
    "password='",
    "password=''x",
    "password='\\\\",
    "password=\\ ",
    'password="\\',
    "secretsecret=",
    "postgres://a:",
    "postgres://a@b:",
    "://a:@",
    '"secret":"',
    '"secret":"\\',
    "create user ",
    "set_config('secret",
    'U&"\\',
    "secret,'a'",
    `secret ${"x.".repeat(200)}${",'a'".repeat(100)}`,
    "\\",
    "''",
    // Between a literal and what may go on with it: each blank or dash once, not each way to share them out.
    `'a'\n${" ".repeat(60)}x`,
    `'a'${"-".repeat(60)}\n`,
    `'a'\n${"--\n".repeat(30)}x`,
  ]) {
    for (const begin of ["passwd ", "alter user passwd '"]) {
      const text = `${begin}${piece.repeat(Math.ceil(300_000 / piece.length))}`;
      const start = performance.now();
      redactSecrets(text);
      redactStatement(text);
      // It takes a fiftieth of that; quadratic work takes several times as long, and minutes for a megabyte.
      expect({ piece, begin, seconds: (performance.now() - start) / 1_000 }).toSatisfy(({ seconds }) => seconds < 5);
    }
  }
}, 120_000);
test("a target's words are looked at as far as they may be kept, whatever comes behind", () => {
  const max = limits.recordedFieldLengthMax;
  const token = `glpat-${hidden}${hidden}`;
  const { M } = JSON.parse(
    redactedJson({ M: `${"x ".repeat(max / 2 - 10)}${token} ${`${token} `.repeat(50_000)}` }, max),
  );
  expect(M).toHaveLength(max);
  expect(M).not.toContain("glpat");
  // What redaction makes shorter is not made up for by text from farther behind.
  const dense = JSON.parse(redactedJson({ M: `${token} `.repeat(50_000) }, max)).M;
  expect(dense.length).toBeLessThan(max / 2);
});
