import { describe, expect, test } from "bun:test";
import { faultOf } from "../../scripts/postgres/fault-of.ts";
import { parseConfig } from "../config.ts";
import { checkAcknowledgement, errorDocument, parseInitialResponse } from "./oauthbearer.ts";

/** `^` stands for the separator, 0x01. */
const bytes = (text: string) => Buffer.from(text.replaceAll("^", "\u0001"), "latin1");
const parse = (text: string) => parseInitialResponse(bytes(text));

describe("an OAUTHBEARER message", () => {
  test.each([
    ["as libpq sends it", "n,,^auth=Bearer a.b-c_d~e+f/g==^^"],
    ["with the flag y", "y,,^auth=Bearer a.b-c_d~e+f/g==^^"],
    ["with the scheme in another case and more spaces", "n,,^auth=bEARER   a.b-c_d~e+f/g==^^"],
    ["with other keys, which are ignored", "n,,^host=db^port=5432^auth=Bearer a.b-c_d~e+f/g==^x=^^"],
  ])("%s gives its token", (_, text) => {
    expect(parse(text)).toEqual({ kind: "token", token: "a.b-c_d~e+f/g==" });
  });

  test("with an empty auth value asks where to get a token", () => {
    expect(parse("n,,^auth=^^")).toEqual({ kind: "discovery" });
  });

  test.each([
    ["nothing in it", "", "it is empty"],
    ["the flag p", "p=tls-exporter,,^auth=Bearer t^^", "channel binding"],
    ["another flag", "x,,^auth=Bearer t^^", "not n or y"],
    ["no comma behind the flag", "n^auth=Bearer t^^", "comma"],
    ["an authorization identity", "n,a=root,^auth=Bearer t^^", "authorization identity"],
    ["an empty authorization identity", "n,a=,^auth=Bearer t^^", "authorization identity"],
    ["another attribute", "n,b=root,^auth=Bearer t^^", "attribute"],
    ["no separator behind the header", "n,,auth=Bearer t^^", "header"],
    ["the acknowledgement instead of a message", "^", "not n or y"],
    ["several auth pairs", "n,,^auth=Bearer t^auth=Bearer u^^", "several auth"],
    ["a second auth pair that is empty", "n,,^auth=Bearer t^auth=^^", "several auth"],
    ["an empty auth pair before another", "n,,^auth=^auth=Bearer t^^", "several auth"],
    ["no auth pair", "n,,^host=db^^", "no auth value"],
    ["a key of another case than auth", "n,,^AUTH=Bearer t^^", "no auth value"],
    ["no pairs", "n,,^^", "no auth value"],
    ["no final ^A", "n,,^auth=Bearer t^", "final ^A is missing"],
    ["nothing behind the header", "n,,^", "final ^A is missing"],
    ["a pair that is not terminated", "n,,^auth=Bearer t", "not terminated"],
    ["data behind the final ^A", "n,,^auth=Bearer t^^x", "behind its final"],
    ["a second message behind the first", "n,,^auth=Bearer t^^^", "behind its final"],
    ["a key without a value", "n,,^auth^^", "no value"],
    ["an empty key", "n,,^=x^auth=Bearer t^^", "word of letters"],
    ["a key with a digit", "n,,^k1=x^auth=Bearer t^^", "word of letters"],
    ["a NUL", "n,,^auth=Bearer t\0^^", "not allowed"],
    ["a byte above ASCII", "n,,^host=\xe9^auth=Bearer t^^", "not allowed"],
  ])("with %s is refused", (_, text, why) => {
    const { code, message } = faultOf(() => parse(text));
    expect(code).toBe("protocol.malformed");
    expect(message).toContain(why);
  });

  test.each([
    ["of another scheme", "Basic dXNlcjpwYXNz", "not Bearer"],
    ["without a scheme", "secret", "not Bearer"],
    ["of a scheme that begins alike", "Bearerx secret", "not Bearer"],
    ["with a tab behind the scheme", "Bearer\tsecret", "not Bearer"],
    ["with a space before the scheme", " Bearer secret", "not Bearer"],
    ["without a token", "Bearer ", "empty"],
    ["with a space in the token", "Bearer secret secret", "not allowed"],
    ["with a line feed behind the token", "Bearer secret\n", "not allowed"],
    ["with = inside the token", "Bearer sec=ret", "not allowed"],
    ["with = only", "Bearer ==", "not allowed"],
    ["with a comma in the token", "Bearer secret,secret", "not allowed"],
  ])("has an auth value %s: it is no token, and is not repeated", (_, auth, why) => {
    const read = parse(`n,,^auth=${auth}^^`);
    expect(read).toEqual({ kind: "unusable", why: expect.stringContaining(why) });
    expect(JSON.stringify(read)).not.toContain("secret");
  });
});

test("the answer to a token that is not accepted names the issuer's discovery document and the scope", () => {
  for (const issuer of ["https://idp.example/realm", "https://idp.example/realm/"])
    expect(JSON.parse(errorDocument({ issuer, scope: "openid email" }).toString())).toEqual({
      status: "invalid_token",
      "openid-configuration": "https://idp.example/realm/.well-known/openid-configuration",
      scope: "openid email",
    });
});

test("a failure is acknowledged by a single ^A and by nothing else", () => {
  checkAcknowledgement(bytes("^"));
  for (const text of ["", "^^", "x", "n,,^auth=Bearer t^^"])
    expect(faultOf(() => checkAcknowledgement(bytes(text))).code).toBe("protocol.malformed");
});

describe("postgres.oauth in the configuration", () => {
  const read = (oauth: unknown) =>
    parseConfig(
      JSON.stringify({
        listen: { postgres: "127.0.0.1:0" },
        postgres: { authentication: "oauthbearer", ...(oauth !== undefined && { oauth }) },
        identity: { issuers: ["https://a.example", "https://b.example"].map((issuer) => ({ issuer, audience: "x" })) },
        policies: { bundle: "bundle.tar.gz" },
        targets: [
          { name: "app", kind: "postgres", address: "db:5432", database: "app", credential: { user: "gateway" } },
        ],
      }),
      "/tmp/gateway.yaml",
    ).postgres.oauth;

  test("names an issuer that is listed, and the scope to ask for", () => {
    expect(read(undefined)).toEqual({ scope: "openid email" });
    expect(read({ issuer: "https://b.example", scope: "openid" })).toEqual({
      issuer: "https://b.example",
      scope: "openid",
    });
  });
  test.each([
    ["an issuer that is not trusted", { issuer: "https://c.example" }, "not listed"],
    ["a scope with a quote", { scope: 'openid "' }, "scopes"],
    ["an empty scope", { scope: "" }, "scopes"],
    ["two spaces between scopes", { scope: "openid  email" }, "scopes"],
  ])("with %s is refused", (_, oauth, why) => {
    expect(faultOf(() => read(oauth)).message).toContain(why);
  });
});
