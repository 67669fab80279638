-- The user that the pipeline reads with: it may read user_logins and nothing else. May be run again; a changed
-- password is taken over. Two values must be set before, with sp_set_session_context, so that no password stands in
-- a file or on a command line:
--
--   reader            the login's name
--   reader_password   its password, at most 128 characters

USE logins;
GO

SET NOCOUNT ON;

DECLARE @reader nvarchar(128) = CAST(SESSION_CONTEXT(N'reader') AS nvarchar(128));
DECLARE @password nvarchar(128) = CAST(SESSION_CONTEXT(N'reader_password') AS nvarchar(128));
DECLARE @name nvarchar(258) = QUOTENAME(@reader);
DECLARE @statement nvarchar(max);

IF @reader IS NULL OR @password IS NULL
    THROW 50000, N'set reader and reader_password with sp_set_session_context first', 1;

-- These statements take no variables.
IF SUSER_ID(@reader) IS NULL
    SET @statement = N'CREATE LOGIN ' + @name + N' WITH PASSWORD = N' + QUOTENAME(@password, '''')
        + N', DEFAULT_DATABASE = logins;';
ELSE IF NOT EXISTS (SELECT 1 FROM sys.sql_logins WHERE name = @reader AND PWDCOMPARE(@password, password_hash) = 1)
    SET @statement = N'ALTER LOGIN ' + @name + N' WITH PASSWORD = N' + QUOTENAME(@password, '''') + N';';
IF @statement IS NOT NULL
    EXEC (@statement);

-- WITH LOGIN: a database that was restored may hold the user of another server's login.
SET @statement = CASE WHEN DATABASE_PRINCIPAL_ID(@reader) IS NULL
    THEN N'CREATE USER ' + @name + N' FOR LOGIN ' + @name
    ELSE N'ALTER USER ' + @name + N' WITH LOGIN = ' + @name
END;
EXEC (@statement);

SET @statement = N'GRANT SELECT ON OBJECT::dbo.user_logins TO ' + @name;
EXEC (@statement);
GO
