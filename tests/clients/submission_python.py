"""Python's smtplib as a user's program: login, SMTPUTF8, a report on delivery, refusals."""
# needs: python3

import email
import email.policy
import os
import poplib
import smtplib
import time
from email.message import EmailMessage

HOST = os.environ["HOST"]
USER = os.environ["USER_ADDRESS"]
OTHER = os.environ["OTHER_ADDRESS"]
PASSWORD = os.environ["PASSWORD"]


def session(login=True):
    client = smtplib.SMTP(HOST, int(os.environ["SUBMISSION_PORT"]), "client.example", timeout=60)
    client.ehlo()
    if login:
        client.login(USER, PASSWORD)
    return client


def message(sender=USER, subject="from smtplib"):
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = f"Ünser Nutzer <{sender}>", USER, subject
    made["Bcc"] = OTHER
    made.set_content("Grüße\n.\n")
    return made


def octets(made):
    return made.as_bytes(policy=email.policy.SMTP)


def refuses(code, action):
    try:
        action()
    except smtplib.SMTPRecipientsRefused as error:
        got = {answer[0] for answer in error.recipients.values()}
    except smtplib.SMTPResponseException as error:
        got = {error.smtp_code}
    else:
        raise AssertionError(f"taken, where {code} should be")
    assert got == {code}, (got, code)


def mails(count):
    """What the maildrop holds once so many are there, oldest first."""
    for _ in range(600):
        client = poplib.POP3(HOST, int(os.environ["POP3_PORT"]), timeout=60)
        client.user(USER)
        client.pass_(PASSWORD)
        there = client.stat()[0]
        got = [b"\r\n".join(client.retr(number + 1)[1]) for number in range(there)]
        client.quit()
        if there >= count:
            return [email.message_from_bytes(one) for one in got]
        time.sleep(0.1)
    raise AssertionError(f"{count} messages are not there")


def main():
    client = session(login=False)
    for word in ("auth", "dsn", "pipelining", "8bitmime", "enhancedstatuscodes", "size"):
        assert client.has_extn(word), word
    refuses(530, lambda: client.sendmail(USER, [USER], "x"))
    refuses(535, lambda: client.login(USER, "wrong"))
    client.login(USER, PASSWORD)
    assert client.send_message(message()) == {}
    client.sendmail(USER, [USER], octets(message(subject="reported")),
                    mail_options=["RET=HDRS", "ENVID=e1"], rcpt_options=["NOTIFY=SUCCESS"])
    refuses(550, lambda: client.sendmail(OTHER, [USER], octets(message())))
    client.rset()
    refuses(550, lambda: client.sendmail(USER, [USER], octets(message(sender=OTHER))))
    client.sendmail(USER, ["a@foreign.example"], octets(message()))
    client.quit()

    got = mails(3)
    first = next(one for one in got if one["Subject"] == "from smtplib")
    assert first["Bcc"] is None and first["Date"] and first["Message-ID"], first.as_string()
    assert "with ESMTPA" in first["Received"], first["Received"]
    report = next(one for one in got if one.get_content_type() == "multipart/report")
    kinds = [part.get_content_type() for part in report.get_payload()]
    assert kinds == ["text/plain", "message/delivery-status", "text/rfc822-headers"], kinds
    per_message, recipient = report.get_payload(1).get_payload()
    assert per_message["Original-Envelope-Id"] == "e1", per_message
    assert recipient["Action"] == "delivered" and USER in recipient["Final-Recipient"], recipient


main()
