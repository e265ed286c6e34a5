"""What policies refuse, and what makes a policy unusable.

PolicyError             (SwarmError, bus/errors.py)
  PolicyNotUsable       a policy document that cannot be put in force
  InvalidAction         words that name nothing that a role could do
  CallDenied            a model or tool that the role may not call
  BudgetExhausted       no tokens left to ask a model with
  RateExceeded          more requests than the role may make
  CredentialError       a password or token that proves nothing
    PasswordRejected    a new password that must not be stored
    NameRejected        a new user name that might pass for another
    InvalidToken        not a token of ours, or not one for us
      ExpiredToken      it was one, until a moment ago
  KeyFileError          a private key file that cannot be used
"""

from bus.errors import SwarmError


class PolicyError(SwarmError):
    """A policy could not be applied."""

    code = "policy_error"


class PolicyNotUsable(PolicyError):
    """The policy document cannot be put in force."""

    code = "policy_not_usable"
    hint = "Correct the policy document; nothing is permitted until it can be read."


class InvalidAction(PolicyError):
    """The words name nothing that a role could do."""

    code = "invalid_action"
    hint = "Actions read like: publish step.completed.coder, call model:NAME, memory write NAME."


class CallDenied(PolicyError):
    """The policy does not let this role call that."""

    code = "call_denied"
    hint = "See what the role may call: swarm policy show."


class BudgetExhausted(PolicyError):
    """There are no tokens left to spend."""

    code = "budget_exhausted"
    hint = "Submit the run again with a larger budget, if the policy allows one."


class RateExceeded(PolicyError):
    """The role has made as many requests as it may for now."""

    code = "rate_exceeded"
    retryable = True


class CredentialError(PolicyError):
    """The credential does not prove who is asking."""

    code = "credential_error"


class PasswordRejected(CredentialError):
    """The password cannot be accepted as a new one."""

    code = "password_rejected"
    hint = "Choose a password of at least 12 characters and at most 1,024 bytes."


class NameRejected(CredentialError):
    """The name cannot be given to a user."""

    code = "name_rejected"
    hint = "Use letters of one script, digits and . _ - @ +, 64 characters at most."


class InvalidToken(CredentialError):
    """The access token is not valid here."""

    code = "invalid_token"
    hint = "Log in again to get a new access token."


class ExpiredToken(InvalidToken):
    """The access token has expired."""

    code = "expired_token"
    hint = "Refresh the access token, or log in again."


class KeyFileError(PolicyError):
    """The private key file cannot be used."""

    code = "key_file_error"
    hint = "The file must hold an Ed25519 key in PEM and be readable by its owner only (0600)."
