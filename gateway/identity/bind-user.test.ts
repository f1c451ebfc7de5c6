import { expect, test } from "bun:test";
import type { IdentityInput } from "../policy/input.ts";
import { requireUser } from "./bind-user.ts";

const ana: IdentityInput = {
  issuer: "https://idp.example",
  subject: "U-1",
  email: "Ana@x.example",
  groups: [],
  kind: "human",
  claims: {},
};

test("accepts the e-mail in any case, and the subject exactly", () => {
  for (const user of ["Ana@x.example", "ana@X.EXAMPLE", "U-1"]) expect(() => requireUser(ana, user)).not.toThrow();
});

test("refuses every other user, the subject in another case, and none", () => {
  for (const user of ["u-1", "bob@x.example", "", "Ana@x.example ", "postgres"])
    expect(() => requireUser(ana, user)).toThrow(expect.objectContaining({ code: "identity.user_mismatch" }));
});

test("an identity without e-mail is not matched by an empty user", () => {
  expect(() => requireUser({ ...ana, email: "" }, "")).toThrow();
});
