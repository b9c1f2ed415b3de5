"""How a certificate for 127.0.0.1 is made, and its key."""

CERTIFY = ('openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout tls.key '
           '-out tls.crt -subj /CN=test -addext subjectAltName=IP:127.0.0.1')
